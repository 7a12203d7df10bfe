select distinct stage as value, stage_name as label, stage_position
from regcrm.funnel_daily
order by stage_position
