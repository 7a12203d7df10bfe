select
	n.stage,
	n.stage_name,
	n.stage_position,
	n.finished_visits,
	n.median_hours,
	n.p90_hours,
	n.now_here,
	n.now_longer,
	n.oldest_hours
from regcrm.stage_norms n
where n.account_id = ${account}
order by n.stage_position
