-- Shapes of answers as amoCRM's API was seen to give them, each once, and what
-- becomes of it.  HTML in place of JSON, 403 and revoked tokens are in test/t.
-- All is rolled back at the end.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS regcrm;
SELECT FROM regcrm.setup();
SET timezone = 'UTC';
SET datestyle = 'ISO, DMY';
SET intervalstyle = 'postgres';
\pset null '-'
\pset tuples_only on
\pset format unaligned
BEGIN;
INSERT INTO regcrm.account (id, known_until) VALUES (9080, '-infinity');

-- A page of the trash (with=only_deleted): null everywhere but id, times and is_deleted. Nothing that is known is lost.
SELECT 'lead', taken, quarantined FROM regcrm.ingest(9080, 'leads', '{"_page": 1, "_links": {"self": {"href": "https://acme.amocrm.ru/api/v4/leads?page=1&limit=250"}}, "_embedded": {"leads": [
 {"id": 9101, "name": "Заявка с сайта", "price": 45000, "price_with_minor_units": 45000.50, "responsible_user_id": 801, "group_id": 0,
 "status_id": 143, "pipeline_id": 11, "loss_reason_id": 501, "source_id": null, "created_by": 0, "updated_by": 801,
 "created_at": 1767220000, "updated_at": 1767223600, "closed_at": 1767223600, "closest_task_at": null, "is_deleted": false,
 "custom_fields_values": null, "score": null, "account_id": 9080, "labor_cost": null, "is_price_modified_by_robot": false,
 "_links": {"self": {"href": "https://acme.amocrm.ru/api/v4/leads/9101"}},
 "_embedded": {"tags": [{"id": 41, "name": "авито", "color": null}], "companies": [{"id": 7001}], "contacts": [{"id": 8001, "is_main": true}],
  "loss_reason": [{"id": 501, "name": "Дорого", "sort": 100000, "created_at": 1600000000, "updated_at": 1600000000}],
  "source": {"id": 77, "name": "Avito"}}}]}}');
SELECT 'only_deleted', taken, quarantined FROM regcrm.ingest(9080, 'leads', '{"_page": 1, "_embedded": {"leads": [
 {"id": 9101, "name": null, "price": null, "responsible_user_id": null, "group_id": null, "status_id": null, "pipeline_id": null,
 "loss_reason_id": null, "created_by": null, "updated_by": 802, "created_at": null, "updated_at": 1767230000, "closed_at": null,
 "closest_task_at": null, "is_deleted": true, "custom_fields_values": null, "score": null, "account_id": 9080, "_embedded": {"tags": [], "companies": []}}]}}');
SELECT name, price, status_id, manager_id, is_deleted, deleted_at FROM regcrm.deal WHERE account_id = 9080;

-- The documentation says that _embedded.loss_reason is an object; it comes as an array of none or one.
SELECT 'loss_reason', reason FROM regcrm.deal WHERE account_id = 9080;

-- A task's result is an object, null, or an empty array.
SELECT 'result', taken, quarantined FROM regcrm.ingest(9080, 'tasks', '{"_embedded": {"tasks": [
 {"id": 6001, "created_by": 801, "updated_by": 801, "created_at": 1767220000, "updated_at": 1767223600, "responsible_user_id": 801, "group_id": 0,
  "entity_id": 9101, "entity_type": "leads", "is_completed": true, "task_type_id": 1, "text": "Перезвонить", "duration": 0, "complete_till": 1767254400, "result": [], "account_id": 9080},
 {"id": 6002, "created_by": 0, "created_at": 1767220000, "updated_at": 1767223600, "responsible_user_id": 801,
  "entity_id": 9101, "entity_type": "leads", "is_completed": true, "task_type_id": 1, "text": "Перезвонить", "complete_till": 1767254400, "result": {"text": "Договорились"}},
 {"id": 6003, "created_by": 0, "created_at": 1767220000, "updated_at": 1767223600, "entity_id": null, "entity_type": null,
  "is_completed": false, "task_type_id": 1, "text": "Ничей", "complete_till": 1767254400, "result": null}]}}');
SELECT id, deal_id, result, by_bot FROM regcrm.task WHERE account_id = 9080 ORDER BY id;

-- Numbers come as texts, and texts as numbers, in custom fields and in the parameters of notes.
SELECT 'numbers', taken, quarantined FROM regcrm.ingest(9080, 'leads', '{"id": "9102", "name": "Ещё одна", "price": "150000", "status_id": "142", "pipeline_id": "11",
 "responsible_user_id": "801", "created_at": "1767220000", "updated_at": "1767223600", "closed_at": "0", "loss_reason_id": "0", "is_deleted": "0",
 "custom_fields_values": [{"field_id": 900, "field_name": "Сумма", "field_code": null, "field_type": "numeric", "values": [{"value": "1.5"}]},
  {"field_id": "901", "field_type": "monetary", "values": [{"value": 150000}]}]}');
SELECT price, status_id, closed_at, custom FROM regcrm.deal WHERE account_id = 9080 AND id = 9102;
SELECT 'call', taken, quarantined FROM regcrm.ingest(9080, 'notes', '{"_links": {"self": {"href": "https://acme.amocrm.ru/api/v4/leads/notes"}}, "_embedded": {"notes": [
 {"id": 5001, "entity_id": 9102, "created_by": 801, "created_at": 1767220000, "updated_at": 1767220000, "note_type": "call_out",
  "params": {"uniq": "a1b2", "duration": "73", "source": "Mango", "phone": "+79990000000", "call_responsible": "801", "call_result": null, "call_status": "4"}},
 {"id": 5002, "entity_id": 9102, "created_by": 0, "created_at": 1767220100, "updated_at": 1767220100, "note_type": "call_in", "params": []}]}}');
SELECT kind, answered, duration, actor_id FROM regcrm.event WHERE account_id = 9080 AND source = 'note' ORDER BY id;

-- An empty object that PHP sent as an array, wherever one is expected; a list that came as an object.
SELECT '[]', taken, quarantined FROM regcrm.ingest(9080, 'leads', '{"_page": 1, "_links": [], "_embedded": []}');
SELECT '{}', taken, quarantined FROM regcrm.ingest(9080, 'leads', '{"_embedded": {"leads": {"0": {"id": 9103, "created_at": 1767220000, "_embedded": [], "custom_fields_values": []}, "2": {"id": 9104, "created_at": 1767220000, "_links": []}}}}');
SELECT '[] of rights', taken, quarantined FROM regcrm.ingest(9080, 'users', '{"_embedded": {"users": [{"id": 801, "name": "Анна", "email": "anna@acme.example",
 "rights": {"leads": {"view": "A"}, "contacts": [], "companies": [], "is_admin": false, "is_active": true, "group_id": null, "role_id": null, "status_rights": []}}]}}');
SELECT name, active FROM regcrm.manager WHERE account_id = 9080;

-- Events: ids are texts, entity types singular, values arrays that may be empty; authors of no person are 0 and less.
SELECT 'events', taken, quarantined FROM regcrm.ingest(9080, 'events', '{"_embedded": {"events": [
 {"id": "01mq7r2x9v5c3t8e6b4n0ahdkw", "type": "lead_status_changed", "entity_id": 9102, "entity_type": "lead", "created_by": -1, "created_at": 1767223600,
  "value_after": [{"lead_status": {"id": 142, "pipeline_id": 11}}], "value_before": [{"lead_status": {"id": 22, "pipeline_id": 11}}], "account_id": 9080, "oauth_client_uuid": null},
 {"id": "01mq7r2x9v5c3t8e6b4n0ahdkx", "type": "entity_merged", "entity_id": 9102, "entity_type": "lead", "created_by": 801, "created_at": 1767223601, "value_after": [], "value_before": []},
 {"id": "01mq7r2x9v5c3t8e6b4n0ahdky", "type": "hologram_projected", "entity_id": 9102, "entity_type": "lead", "created_by": 801, "created_at": 1767223602, "value_after": [], "value_before": []}]}}');
SELECT kind, by_bot, actor_id FROM regcrm.event WHERE account_id = 9080 AND source = 'event';
SELECT type FROM regcrm.other_event WHERE account_id = 9080 AND entity_type = 'lead' ORDER BY type;
SELECT entity, sqlstate, error FROM regcrm.quarantine WHERE account_id = 9080;
ROLLBACK;
