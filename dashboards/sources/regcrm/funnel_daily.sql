-- Deals by the day on which they were created; outcome tells the stages of the
-- way from those at its end.
select
	to_char(f.day, 'YYYY-MM-DD') as day,
	f.stage,
	f.stage_name,
	f.stage_position,
	s.outcome,
	f.deals,
	f.reached,
	f.now_here,
	f.won_after
from regcrm.funnel_daily f
join regcrm.stage_def s on s.stage = f.stage
where f.account_id = ${account}
order by f.day, f.stage_position
