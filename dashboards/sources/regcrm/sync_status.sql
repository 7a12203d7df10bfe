-- A kind of thing that is read from amoCRM: how far, how much, what failed.
select
	s.entity,
	s.entity_name,
	case when isfinite(s.read_until) then to_char(s.read_until at time zone a.time_zone, 'YYYY-MM-DD HH24:MI:SS') end as read_until,
	s.rows_read,
	s.requests,
	s.quarantined,
	s.load_progress * 100 as load_percent,
	s.last_error
from regcrm.sync_status s
join regcrm.account_now a on a.account_id = s.account_id
where s.account_id = ${account} and s.entity is not null
order by s.entity
