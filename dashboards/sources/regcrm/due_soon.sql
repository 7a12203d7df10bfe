-- Due within two hours, or overdue while the data does not say yet what became of it.
select
	u.deal_id,
	coalesce(nullif(btrim(u.deal_name), ''), '№ ' || u.deal_id) as deal_name,
	u.deal_url,
	u.rule,
	u.title,
	u.severity,
	u.severity_name,
	u.duty_of,
	coalesce(u.manager_name, u.duty_of_name) as who,
	to_char(u.due_at at time zone a.time_zone, 'YYYY-MM-DD HH24:MI:SS') as due_at,
	u.minutes_left * 60 as left_seconds
from regcrm.due_soon u
join regcrm.account_now a on a.account_id = u.account_id
where u.account_id = ${account}
order by u.due_at, u.deal_id, u.rule
