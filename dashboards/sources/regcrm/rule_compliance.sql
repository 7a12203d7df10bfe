select
	r.rule,
	r.title,
	r.clause,
	r.form,
	r.form_name,
	r.stage,
	r.stage_name,
	r.stage_position,
	r.severity,
	r.severity_name,
	r.severity_rank,
	r.duty_of,
	r.duty_of_name,
	r.basis_name,
	r.is_in_force
from regcrm.rule_compliance r
where r.account_id = ${account}
order by r.rule
