select
	s.account_name,
	s.base_url,
	s.is_synced,
	s.state,
	s.state_reason,
	s.paused,
	to_char(s.known_from at time zone a.time_zone, 'YYYY-MM-DD HH24:MI:SS') as known_from,
	to_char(s.known_until at time zone a.time_zone, 'YYYY-MM-DD HH24:MI:SS') as known_until,
	extract(epoch from s.lag) as lag_seconds,
	to_char(s.last_read_at at time zone a.time_zone, 'YYYY-MM-DD HH24:MI:SS') as last_read_at,
	s.rows_read,
	s.requests,
	s.last_error,
	to_char(s.last_error_at at time zone a.time_zone, 'YYYY-MM-DD HH24:MI:SS') as last_error_at,
	to_char(s.next_try_at at time zone a.time_zone, 'YYYY-MM-DD HH24:MI:SS') as next_try_at,
	s.quarantined,
	s.loading,
	s.load_progress * 100 as load_percent,
	s.rejudge_due,
	w.sync_runs,
	w.clock_runs
from regcrm.sync_accounts s
join regcrm.account_now a on a.account_id = s.account_id
left join (select account_id, bool_or(sync_runs) as sync_runs, bool_or(clock_runs) as clock_runs from regcrm.sync_status group by account_id) w on w.account_id = s.account_id
where s.account_id = ${account}
