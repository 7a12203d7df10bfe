select
	f.deal_id,
	coalesce(nullif(btrim(f.deal_name), ''), '№ ' || f.deal_id) as deal_name,
	f.deal_url,
	f.source_name,
	f.stage_name,
	f.manager_id,
	f.manager_name,
	to_char(f.created_at at time zone a.time_zone, 'YYYY-MM-DD HH24:MI:SS') as created_at,
	to_char(f.arrived_day, 'YYYY-MM-DD') as arrived_day,
	f.arrived_hour,
	f.first_touch_name,
	extract(epoch from f.response_business) as response_seconds,
	f.is_within_15,
	extract(epoch from f.waiting_for) as waiting_seconds
from regcrm.first_response f
join regcrm.account_now a on a.account_id = f.account_id
where f.account_id = ${account}
order by f.created_at, f.deal_id
