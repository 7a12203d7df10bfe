-- Breaches that count: neither waived nor withdrawn.
select
	v.id,
	v.deal_id,
	v.deal_name,
	v.deal_url,
	v.rule,
	v.title,
	v.clause,
	v.severity,
	v.severity_name,
	array_position('{critical,major,minor,info}'::text[], v.severity) as severity_rank,
	v.duty_of,
	v.stage_name,
	v.manager_id,
	v.manager_name,
	to_char(v.breached_at at time zone a.time_zone, 'YYYY-MM-DD HH24:MI:SS') as breached_at,
	to_char(v.breached_at at time zone a.time_zone, 'YYYY-MM-DD') as day,
	extract(epoch from v.late) as late_seconds,
	v.is_open,
	v.resolution_name,
	v.reason
from regcrm.violations v
join regcrm.account_now a on a.account_id = v.account_id
where v.account_id = ${account} and not v.is_waived and not v.is_withdrawn
order by v.breached_at, v.id
