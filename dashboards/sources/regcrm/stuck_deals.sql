select
	k.deal_id,
	coalesce(nullif(btrim(k.deal_name), ''), '№ ' || k.deal_id) as deal_name,
	k.deal_url,
	k.price,
	k.stage,
	k.stage_name,
	k.manager_id,
	k.manager_name,
	k.dwell_hours * 3600 as dwell_seconds,
	k.median_hours * 3600 as median_seconds,
	k.times_median,
	k.is_over_p90,
	k.broken_limits,
	k.days_without_touch
from regcrm.stuck_deals k
where k.account_id = ${account}
order by k.dwell_hours desc, k.deal_id
