-- A manager: duties of the last seven days, beside the seven before.
select
	m.manager_id,
	m.manager_name,
	m.met,
	m.decided,
	m.previous_met,
	m.previous_decided
from regcrm.manager_last_week m
where m.account_id = ${account}
order by m.manager_id
