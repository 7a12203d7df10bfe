-- A manager, a rule: the last seven days up to what is known, beside the seven before.
select
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
	v.previous_violations
from regcrm.violations_last_week v
where v.account_id = ${account}
order by v.severity_rank, v.rule, v.manager_id
