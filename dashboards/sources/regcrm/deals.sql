-- What a deal is found by, and how it stands.
select
	t.deal_id,
	coalesce(nullif(btrim(t.deal_name), ''), '№ ' || t.deal_id) as deal_name,
	t.deal_url,
	t.stage_name,
	t.manager_name,
	t.deal_outcome_name,
	t.touches,
	t.touches_before_contact,
	to_char(t.created_at at time zone a.time_zone, 'YYYY-MM-DD HH24:MI:SS') as created_at
from regcrm.deal_touches t
join regcrm.account_now a on a.account_id = t.account_id
where t.account_id = ${account}
order by t.created_at desc, t.deal_id
