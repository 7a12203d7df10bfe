select
	to_char(t.day, 'YYYY-MM-DD') as day,
	t.manager_id,
	t.manager_name,
	t.completed,
	t.completed_late,
	t.in_batches,
	t.largest_batch,
	t.pushed,
	t.pushed_overdue
from regcrm.tidy_up_daily t
where t.account_id = ${account}
order by t.day, t.manager_id
