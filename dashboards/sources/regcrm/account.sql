-- The account that these dashboards show, and how far its data reaches.
select
	a.account_name,
	to_char(a.as_of at time zone a.time_zone, 'YYYY-MM-DD HH24:MI:SS') as as_of,
	to_char(a.as_of at time zone a.time_zone, 'YYYY-MM-DD') as as_of_day,
	a.time_zone,
	a.calendar
from regcrm.account_now a
where a.account_id = ${account}
