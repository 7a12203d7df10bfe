select to_char(w.week, 'YYYY-MM-DD') as week, w.is_over
from regcrm.account_weeks w
where w.account_id = ${account}
order by w.week desc
