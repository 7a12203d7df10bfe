select
	h.deal_id,
	coalesce(nullif(btrim(h.deal_name), ''), '№ ' || h.deal_id) as deal_name,
	h.deal_url,
	h.price,
	h.stage,
	h.stage_name,
	h.stage_position,
	h.manager_id,
	h.manager_name,
	h.health,
	h.health_name,
	h.open_violations,
	h.open_critical,
	h.missing,
	to_char(h.next_due_at at time zone a.time_zone, 'YYYY-MM-DD HH24:MI:SS') as next_due_at,
	h.next_due_title,
	h.open_tasks,
	h.overdue_tasks,
	h.dwell_hours * 3600 as dwell_seconds
from regcrm.deal_health h
join regcrm.account_now a on a.account_id = h.account_id
where h.account_id = ${account}
order by h.deal_id
