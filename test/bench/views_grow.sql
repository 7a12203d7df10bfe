-- Copies the account of a demo 38 times, a month further back each time, thirteen times round.
-- As a superuser, in a copy of the demo's database; see views.sql.
\set ON_ERROR_STOP 1
set session_replication_role = replica;
set synchronous_commit=off;
do $$
declare k int; s interval; o bigint;
begin
for k in 1..38 loop
 s := (k % 13) * interval '30 days'; o := k * 100000000::bigint;
 insert into regcrm.deal (account_id,id,name,price,pipeline_id,stage,manager_id,created_at,updated_at,closed_at,is_deleted,deleted_at,lead_date,reason,meeting_at,source_name,status_id,raw)
  select account_id,id+o,name,price,pipeline_id,stage,manager_id,created_at-s,updated_at-s,closed_at-s,is_deleted,deleted_at-s,lead_date,reason,meeting_at-s,source_name,status_id,raw from regcrm.deal where id < 100000000;
 insert into regcrm.task (account_id,id,deal_id,kind,body,manager_id,created_at,by_bot,due_at,completed_at,result,raw)
  select account_id,id+o,deal_id+o,kind,body,manager_id,created_at-s,by_bot,due_at-s,completed_at-s,result,raw from regcrm.task where id < 100000000;
 insert into regcrm.event (account_id,id,deal_id,at,kind,by_bot,actor_id,from_stage,to_stage,answered,duration,channel,scenario,field,value,body,source,source_id)
  select account_id, id+k, deal_id+o, at-s,kind,by_bot,actor_id,from_stage,to_stage,answered,duration,channel,scenario,field,value,body,source,source_id||'-'||k from regcrm.event where deal_id < 100000000
  on conflict do nothing;
 insert into regcrm.deadline (account_id,deal_id,rule,task_id,arose_at,warn_at,due_at,met_at,state,stage,manager_id,ended_at)
  select account_id,deal_id+o,rule,task_id+o,arose_at-s,warn_at-s,due_at-s,met_at-s,case when state in ('pending','warned') and k%13>0 then 'cancelled' else state end,stage,manager_id,ended_at-s from regcrm.deadline where deal_id < 100000000;
 insert into regcrm.violation (account_id,deal_id,rule,task_id,stage,manager_id,severity,arose_at,breached_at,detected_at,resolved_at,resolution,evidence)
  select account_id,deal_id+o,rule,task_id+o,stage,manager_id,severity,arose_at-s,breached_at-s,detected_at,coalesce(resolved_at-s,breached_at-s+interval '1 h'),coalesce(resolution,'left'),evidence from regcrm.violation where deal_id < 100000000;
end loop; end $$;
vacuum analyze;
