select
	u.deal_id,
	coalesce(nullif(btrim(u.deal_name), ''), '№ ' || u.deal_id) as deal_name,
	u.deal_url,
	u.rule,
	u.title,
	u.severity,
	u.severity_name,
	u.duty_of,
	u.stage_name,
	u.manager_id,
	u.manager_name,
	to_char(u.due_at at time zone a.time_zone, 'YYYY-MM-DD HH24:MI:SS') as due_at,
	extract(epoch from u.time_left) as left_seconds,
	u.is_warned
from regcrm.upcoming_deadlines u
join regcrm.account_now a on a.account_id = u.account_id
where u.account_id = ${account} and u.duty_of = 'manager' and isfinite(u.due_at)
order by u.due_at, u.deal_id, u.rule
