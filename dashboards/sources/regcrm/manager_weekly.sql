select
	to_char(m.week, 'YYYY-MM-DD') as week,
	m.manager_id,
	m.manager_name,
	m.met,
	m.decided,
	m.compliance,
	m.previous_met,
	m.previous_decided,
	m.previous_compliance,
	m.compliance_change,
	m.trend_name
from regcrm.manager_weekly m
where m.account_id = ${account}
order by m.week, m.manager_id
