-- Every deal's story.  Texts of messages and comments stay in the warehouse and in amoCRM.
select
	l.deal_id,
	row_number() over (partition by l.deal_id order by l.at, l.place, l.event_id, l.task_id, l.violation_id) as n,
	to_char(l.at at time zone a.time_zone, 'YYYY-MM-DD HH24:MI:SS') as at,
	l.kind,
	l.kind_name,
	l.what,
	l.is_violation,
	l.rule,
	l.title,
	l.clause,
	l.severity,
	l.severity_name,
	coalesce(l.actor_name, case when l.by_bot then 'робот' end) as who,
	l.stage_name
from regcrm.deal_timeline l
join regcrm.account_now a on a.account_id = l.account_id
where l.account_id = ${account}
order by l.deal_id, n
