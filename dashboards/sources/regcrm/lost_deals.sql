select
	l.deal_id,
	coalesce(nullif(btrim(l.deal_name), ''), '№ ' || l.deal_id) as deal_name,
	l.deal_url,
	to_char(l.lost_day, 'YYYY-MM-DD') as lost_day,
	l.stage,
	l.stage_name,
	l.manager_id,
	l.manager_name,
	l.reason,
	l.is_given,
	l.is_given_in_time
from regcrm.lost_deals l
where l.account_id = ${account}
order by l.lost_at, l.deal_id
