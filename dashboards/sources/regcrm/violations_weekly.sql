-- A manager, a rule, a week; previous_… = the week before, up to the same moment of it.
select
	to_char(v.week, 'YYYY-MM-DD') as week,
	v.manager_id,
	coalesce(v.manager_name, initcap(v.duty_of_name)) as who,
	v.rule,
	v.title,
	v.clause,
	v.severity,
	v.severity_name,
	v.severity_rank,
	v.duty_of,
	v.violations,
	v.deals,
	v.still_open,
	v.previous_violations,
	v.trend_name
from regcrm.violations_weekly v
where v.account_id = ${account}
order by v.week, v.severity_rank, v.rule, v.manager_id
