select
	t.deal_id,
	coalesce(nullif(btrim(t.deal_name), ''), '№ ' || t.deal_id) as deal_name,
	t.deal_url,
	t.stage,
	t.stage_name,
	t.manager_id,
	t.manager_name,
	t.without_task_hours * 3600 as without_task_seconds,
	t.last_task_body,
	t.is_violation,
	t.title
from regcrm.deals_without_task t
where t.account_id = ${account}
order by t.without_task_hours desc, t.deal_id
