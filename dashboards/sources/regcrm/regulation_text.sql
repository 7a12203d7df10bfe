select
	t.rule,
	t.stage,
	coalesce(t.stage_name, 'Все этапы') as stage_name,
	coalesce(t.stage_position, 0) as stage_position,
	t.clause,
	t.title,
	t.how,
	t.severity,
	t.severity_name,
	t.severity_rank,
	t.duty_of_name,
	t.basis,
	t.basis_name
from regcrm.regulation_text t
join regcrm.account_now a on a.regulation = t.regulation
where a.account_id = ${account}
order by coalesce(t.stage_position, 0), t.rule
