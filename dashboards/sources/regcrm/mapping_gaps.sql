select
	g.gap,
	g.gap_name,
	g.id,
	g.name,
	g.meaning,
	g.rules,
	g.what_to_do
from regcrm.mapping_gaps g
where g.account_id = ${account}
order by g.gap, g.name
