select distinct manager_id::bigint::varchar as value, manager_name as label
from regcrm.manager_scorecard
order by label
