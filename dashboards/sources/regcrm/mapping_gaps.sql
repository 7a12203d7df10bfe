select
	g.gap,
	g.id,
	g.name,
	g.meaning,
	array_to_string(g.rules, ', ') as rules,
	g.what_to_do
from regcrm.mapping_gaps g
where g.account_id = ${account}
order by g.gap, g.name
