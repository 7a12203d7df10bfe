select
	to_char(r.at at time zone a.time_zone, 'YYYY-MM-DD HH24:MI:SS') as at,
	r.deal_id,
	coalesce(nullif(btrim(r.deal_name), ''), '№ ' || r.deal_id) as deal_name,
	r.deal_url,
	r.stage_name,
	r.from_stage_name,
	r.nth,
	r.pair_name,
	r.manager_name
from regcrm.stage_returns r
join regcrm.account_now a on a.account_id = r.account_id
where r.account_id = ${account}
order by r.at, r.deal_id
