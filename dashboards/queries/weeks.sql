-- the weeks of the account's life, the present one first
select week as value, week as label
from regcrm.weeks
order by week desc
