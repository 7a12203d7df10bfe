-- Breaches that count: neither waived nor withdrawn.
select
	v.id,
	v.deal_id,
	coalesce(nullif(btrim(v.deal_name), ''), '№ ' || v.deal_id) as deal_name,
	v.deal_url,
	v.rule,
	v.title,
	v.clause,
	v.severity,
	v.severity_name,
	v.severity_rank,
	v.duty_of,
	v.duty_of_name,
	v.stage_name,
	v.manager_id,
	coalesce(v.manager_name, initcap(v.duty_of_name)) as who,
	to_char(v.breached_at at time zone a.time_zone, 'YYYY-MM-DD HH24:MI:SS') as breached_at,
	to_char(v.breached_day, 'YYYY-MM-DD') as day,
	extract(epoch from v.late) as late_seconds,
	v.is_open,
	coalesce(v.resolution_name, 'ещё можно исправить') as resolution_name,
	v.reason
from regcrm.violations v
join regcrm.account_now a on a.account_id = v.account_id
where v.account_id = ${account} and v.counts
order by v.breached_at, v.id
