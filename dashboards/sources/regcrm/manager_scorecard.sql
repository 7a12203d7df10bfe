select
	to_char(s.day, 'YYYY-MM-DD') as day,
	s.manager_id,
	s.manager_name,
	s.arisen,
	s.met,
	s.late,
	s.missed,
	s.waived,
	s.cancelled,
	s.pending,
	s.waiting,
	s.decided,
	s.breaches_at_once,
	s.violations,
	s.critical
from regcrm.manager_scorecard s
where s.account_id = ${account}
order by s.day, s.manager_id
