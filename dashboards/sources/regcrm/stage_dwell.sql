-- Visits of deals to stages; slips of the mouse left out, as the judge does.
select
	d.deal_id,
	d.deal_name,
	d.deal_url,
	d.manager_id,
	d.manager_name,
	d.stage,
	d.stage_name,
	d.stage_position,
	to_char(d.entered_at at time zone a.time_zone, 'YYYY-MM-DD HH24:MI:SS') as entered_at,
	to_char(d.entered_at at time zone a.time_zone, 'YYYY-MM-DD') as entered_day,
	extract(epoch from d.dwell) as dwell_seconds,
	d.is_current
from regcrm.stage_dwell d
join regcrm.account_now a on a.account_id = d.account_id
where d.account_id = ${account} and not d.is_slip
order by d.entered_at, d.deal_id
