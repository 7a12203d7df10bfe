-- the chosen week, else the present one
select coalesce(nullif('${inputs.week.value}', ''), max(week)) as week
from regcrm.weeks
