select
	r.rule,
	r.title,
	r.clause,
	r.form,
	r.stage,
	r.stage_name,
	s.position as stage_position,
	r.severity,
	r.severity_name,
	array_position('{critical,major,minor,info}'::text[], r.severity) as severity_rank,
	r.duty_of,
	r.arisen,
	r.met,
	r.late,
	r.missed,
	r.waived,
	r.cancelled,
	r.pending,
	r.waiting,
	r.decided,
	r.compliance,
	r.breaches_at_once,
	r.violations,
	r.basis_name,
	r.is_in_force
from regcrm.rule_compliance r
left join regcrm.stage_def s on s.stage = r.stage
where r.account_id = ${account}
order by r.rule
