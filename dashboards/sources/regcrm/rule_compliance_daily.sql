select
	to_char(r.day, 'YYYY-MM-DD') as day,
	r.rule,
	r.arisen,
	r.met,
	r.late,
	r.missed,
	r.waived,
	r.cancelled,
	r.pending,
	r.waiting,
	r.decided,
	r.breaches_at_once,
	r.violations
from regcrm.rule_compliance_daily r
where r.account_id = ${account}
order by r.day, r.rule
