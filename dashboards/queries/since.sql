-- the first day of the chosen period
select as_of_day::date - (coalesce(try_cast(nullif('${inputs.days.value}', '') as integer), 30) - 1) as first_day, as_of_day::date as last_day
from regcrm.account
