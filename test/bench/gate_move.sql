-- One legal move with its task and its scenario, for pgbench: each deal of a run is moved once.
-- :base, :clients and :n = -1 come from the command line.
\set n :n + 1
\set d :base + :n * :clients + :client_id
begin;
insert into regcrm.event (account_id, deal_id, kind, actor_id, scenario) values (1, :d, 'scenario', 1, 'meeting');
update regcrm.deal set stage = 'meeting', meeting_at = now() + interval '2 days', updated_at = now() where account_id = 1 and id = :d;
insert into regcrm.task (account_id, deal_id, kind, body, manager_id, due_at) values (1, :d, 'meeting_control', 'Контроль встречи', 1, now() + interval '1 day');
commit;
