-- the weeks there is something of, the present one first
select distinct date_trunc('week', day::date)::date::varchar as value, date_trunc('week', day::date)::date::varchar as label
from (
	select day from regcrm.manager_scorecard
	union all
	select as_of_day from regcrm.account
)
order by 1 desc
