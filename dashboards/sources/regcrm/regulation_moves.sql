select
	m.from_stage_name,
	coalesce(f.position, 0) as from_position,
	m.to_stage_name,
	t.position as to_position,
	m.comment_required,
	m.clause,
	m.basis_name
from regcrm.regulation_moves m
join regcrm.account_now a on a.regulation = m.regulation
left join regcrm.stage_def f on f.stage = m.from_stage
left join regcrm.stage_def t on t.stage = m.to_stage
where a.account_id = ${account}
order by coalesce(f.position, 0), t.position
