-- Pages of the amoCRM API as it sends them, with all their oddities, and what
-- ingest() makes of them.  All is rolled back at the end.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS regcrm;
SELECT FROM regcrm.setup();
SET timezone = 'Europe/Moscow';
SET datestyle = 'ISO, DMY';
SET intervalstyle = 'postgres';
\pset null '-'

BEGIN;
INSERT INTO regcrm.account (id, known_until) VALUES (9070, '-infinity');
SET LOCAL regcrm.account_id = '9070';
-- nothing else in the database is looked at
CREATE TEMP VIEW deal AS SELECT * FROM regcrm.deal WHERE account_id = 9070;
CREATE TEMP VIEW event AS SELECT * FROM regcrm.event WHERE account_id = 9070;
CREATE TEMP VIEW task AS SELECT * FROM regcrm.task WHERE account_id = 9070;
CREATE TEMP VIEW manager AS SELECT * FROM regcrm.manager WHERE account_id = 9070;
CREATE TEMP VIEW stage_map AS SELECT * FROM regcrm.stage_map WHERE account_id = 9070;
CREATE TEMP VIEW field_map AS SELECT * FROM regcrm.field_map WHERE account_id = 9070;
CREATE TEMP VIEW task_kind_map AS SELECT * FROM regcrm.task_kind_map WHERE account_id = 9070;
CREATE TEMP VIEW deal_contact AS SELECT * FROM regcrm.deal_contact WHERE account_id = 9070;
CREATE TEMP VIEW quarantine AS SELECT * FROM regcrm.quarantine WHERE account_id = 9070;
CREATE TEMP VIEW other_event AS SELECT * FROM regcrm.other_event WHERE account_id = 9070;
CREATE TEMP VIEW contact AS SELECT * FROM regcrm.contact WHERE account_id = 9070;
CREATE TEMP VIEW feed AS SELECT * FROM regcrm.feed WHERE account_id = 9070;

-- ---------------------------------------------------------------------------
-- what is no page
-- ---------------------------------------------------------------------------
\set ON_ERROR_ROLLBACK on
SELECT regcrm.ingest(9070, 'leads', '"text"');				-- should fail
SELECT regcrm.ingest(9070, 'leads', 'null');				-- should fail
SELECT regcrm.ingest(9070, 'leads', NULL);					-- should fail
SELECT regcrm.ingest(9070, 'talks', '{}');					-- should fail
SELECT regcrm.ingest(9071, 'leads', '[]');					-- should fail
SELECT regcrm.ingest(9070, 'tasks', '{"_embedded": {"leads": []}}');	-- should fail
SELECT * FROM regcrm.ingest(9070, 'leads', '[]');
SELECT * FROM regcrm.ingest(9070, 'leads', '{"_page": 1, "_links": {}, "_embedded": []}');
SELECT * FROM regcrm.ingest(9070, 'leads', '{"_page": 1, "_links": {}, "_embedded": {"leads": null}}');
-- an error of the API is no lead
SELECT * FROM regcrm.ingest(9070, 'leads', '{"title": "Unauthorized", "status": 401}');

-- ---------------------------------------------------------------------------
-- leads before everything that explains them
-- ---------------------------------------------------------------------------
SELECT * FROM regcrm.ingest(9070, 'leads', $${"_page": 1,
 "_links": {"self": {"href": "https://acme.amocrm.ru/api/v4/leads?limit=250&page=1"}},
 "_embedded": {"leads": [
  {"id": 9101, "name": "Заявка с сайта 🚗", "price": 45000, "price_with_minor_units": 45000.50, "responsible_user_id": 801, "group_id": 0,
   "status_id": 22, "pipeline_id": 11, "loss_reason_id": null, "source_id": 77, "created_by": 0, "updated_by": 801,
   "created_at": 1767220000, "updated_at": 1767223600, "closed_at": null, "closest_task_at": 1767254400, "is_deleted": false,
   "custom_fields_values": [
    {"field_id": 701, "field_name": "Дата встречи", "field_code": null, "field_type": "date_time", "values": [{"value": 1767254400}]},
    {"field_id": 702, "field_name": "Причина отказа", "field_code": null, "field_type": "select", "values": [{"value": "Дорого", "enum_id": 9001, "enum_code": null}]},
    {"field_id": 703, "field_name": "Телефон", "field_code": "PHONE", "field_type": "multitext", "values": [{"value": "+79990000000", "enum_id": 31, "enum_code": "WORK"}]},
    {"field_id": 705, "field_name": "Дата создания лида", "field_code": null, "field_type": "date", "values": [{"value": 1767214800}]},
    {"field_id": 706, "field_name": "Договор подписан", "field_code": null, "field_type": "checkbox", "values": [{"value": true}]},
    {"field_id": 707, "field_name": "Оплата получена", "field_code": null, "field_type": "checkbox", "values": [{"value": true}]},
    {"field_id": 708, "field_name": "Срок возврата", "field_code": null, "field_type": "text", "values": [{"value": "когда-нибудь"}]},
    {"field_id": 709, "field_name": "Каталог", "field_code": null, "field_type": "chained_list", "values": [{"catalog_id": 5, "catalog_element_id": 6}]},
    {"field_id": 712, "field_name": "Не проверять задачи", "field_code": null, "field_type": "checkbox", "values": [{"value": true}]}],
   "score": null, "account_id": 9070, "labor_cost": null, "is_price_modified_by_robot": false,
   "_links": {"self": {"href": "https://acme.amocrm.ru/api/v4/leads/9101"}},
   "_embedded": {"tags": [{"id": 41, "name": "авито", "color": null}], "companies": [{"id": 7001}], "contacts": [{"id": 8001, "is_main": true}],
    "loss_reason": [], "source": {"id": 77, "name": "Avito"}}},
  {"name": "без номера"},
  {"id": 9102, "created_at": 1000000000000000000},
  {"id": "девять", "created_at": 1767220000},
  {"id": 1e18, "created_at": 1767220000},
  "no lead", 7, null,
  {"id": 9103, "name": null, "price": null, "responsible_user_id": 802, "status_id": 143, "pipeline_id": 12, "loss_reason_id": 501,
   "created_at": 1767220000, "updated_at": 1767223600, "closed_at": 1767223600, "custom_fields_values": null,
   "_embedded": {"loss_reason": [{"id": 501, "name": "Дорого", "sort": 100000}], "tags": [], "contacts": []}},
  {"id": "9104", "price": "150000", "status_id": "142", "pipeline_id": "11", "responsible_user_id": "801", "created_at": "1767220000",
   "updated_at": "1767223600", "closed_at": "0", "loss_reason_id": 0, "custom_fields_values": [], "_embedded": []},
  {"id": 9105, "created_at": 1767220000, "price": "много"},
  {"id": 9106, "created_at": 1767220000, "updated_at": -5, "custom_fields_values": {"0": "?"}}
 ]}}$$);
SELECT id, name, price, stage, manager_id, closed_at, reason, custom, in_regulation FROM deal ORDER BY id;
SELECT entity, source_id, sqlstate, error, page IS NOT NULL AS kept FROM quarantine ORDER BY id;

-- ---------------------------------------------------------------------------
-- dictionaries: the mappings fill themselves, what came before is read again
-- ---------------------------------------------------------------------------
SELECT * FROM regcrm.ingest(9070, 'account', $${"id": 9070, "name": "Автошкола", "subdomain": "acme", "timezone": "Asia/Yekaterinburg",
 "_embedded": {"users_groups": [{"id": 0, "name": "Отдел продаж", "uuid": null}],
  "task_types": [{"id": 1, "name": "Связаться", "code": "FOLLOW_UP"}, {"id": 2610101, "name": "Контроль договора", "code": null}],
  "datetime_settings": {"date_formant": "d.m.Y", "timezone": "Europe/Moscow", "timezone_offset": "+03:00"}}}$$);
SELECT name, subdomain, time_zone FROM regcrm.account WHERE id = 9070;
-- an unknown zone is kept out, an account as a page of its own is no list
SELECT * FROM regcrm.ingest(9070, 'account', '{"id": 9070, "timezone": "Mars/Olympus", "_embedded": []}');
SELECT * FROM regcrm.ingest(9070, 'account', '{"id": 9070, "name": "Автошкола", "_embedded": {"datetime_settings": {"timezone": "Europe/Moscow"}}}');
SELECT name, time_zone FROM regcrm.account WHERE id = 9070;

SELECT * FROM regcrm.ingest(9070, 'users', $${"_total_items": 4, "_embedded": {"users": [
  {"id": 801, "name": "Анна", "email": "anna@acme.example", "lang": "ru", "rights": {"leads": {"view": "A"}, "is_admin": false, "is_active": true, "group_id": null}},
  {"id": 802, "name": "Борис", "email": "boris@acme.example", "rights": {"is_active": false, "group_id": 0}},
  {"id": 899, "name": "Телефония Mango", "rights": []},
  {"id": 0, "name": "робот"}]}}$$);
SELECT id, name, email, group_id, group_name, active, in_scope FROM manager ORDER BY id;

SELECT * FROM regcrm.ingest(9070, 'pipelines', $${"_total_items": 2, "_embedded": {"pipelines": [
 {"id": 11, "name": "Продажи", "sort": 1, "is_main": true, "is_unsorted_on": true, "is_archive": false, "account_id": 9070, "_embedded": {"statuses": [
  {"id": 21, "name": "Неразобранное", "sort": 10, "is_editable": false, "pipeline_id": 11, "color": "#c1c1c1", "type": 1},
  {"id": 22, "name": " НОВЫЕ ЗАЯВКИ (ЛИДЫ)", "sort": 20, "type": 0},
  {"id": 23, "name": "Ведется переписка", "sort": 30, "type": 0},
  {"id": 24, "name": "Ждёт ответа банка", "sort": 40, "type": 0},
  {"id": 142, "name": "Заключён договор", "sort": 10000, "type": 0},
  {"id": 143, "name": "Закрыто и не реализовано", "sort": 11000, "type": 0}]}},
 {"id": 12, "name": "Обучение", "sort": 2, "is_main": false, "is_archive": false, "_embedded": {"statuses": [
  {"id": 31, "name": "Неразобранное", "sort": 10, "type": 1},
  {"id": 32, "name": "Теория", "sort": 20, "type": 0},
  {"id": 142, "name": "Успешно реализовано", "sort": 10000, "type": 0},
  {"id": 143, "name": "Закрыто и не реализовано", "sort": 11000, "type": 0}]}}]}}$$);
SELECT pipeline_id, status_id, stage, by_user FROM stage_map ORDER BY 1, 2;

SELECT * FROM regcrm.ingest(9070, 'custom_fields', $${"_links": {"self": {"href": "https://acme.amocrm.ru/api/v4/leads/custom_fields?page=1"}}, "_embedded": {"custom_fields": [
 {"id": 701, "name": "Дата встречи", "type": "date_time", "code": null, "enums": null},
 {"id": 702, "name": "Причина отказа", "type": "select", "enums": [{"id": 9001, "value": "Дорого", "sort": 1}, {"id": 9002, "value": "Далеко", "sort": 2}]},
 {"id": 705, "name": "дата создания лида ", "type": "date"},
 {"id": 706, "name": "Договор подписан", "type": "checkbox"},
 {"id": 707, "name": "Оплата получена", "type": "checkbox"},
 {"id": 708, "name": "Срок возврата", "type": "text"},
 {"id": 710, "name": "Сценарий", "type": "select", "enums": [{"id": 9101, "value": "Недозвон", "sort": 1}]},
 {"id": 712, "name": "Не проверять задачи", "type": "checkbox"}]}}$$);
-- fields of contacts hold no column of a deal
SELECT * FROM regcrm.ingest(9070, 'custom_fields', $${"_links": {"self": {"href": "https://acme.amocrm.ru/api/v4/contacts/custom_fields?page=1"}}, "_embedded": {"custom_fields": [
 {"id": 713, "name": "Причина паузы", "type": "text"}]}}$$);
SELECT field_id, field, by_user FROM field_map ORDER BY 1;
SELECT * FROM regcrm.ingest(9070, 'loss_reasons', '{"_embedded": {"loss_reasons": [{"id": 501, "name": "Дорого", "sort": 100000}]}}');

SELECT id, price, stage, closed_at, reason, lead_date, meeting_at, return_on, in_regulation FROM deal ORDER BY id;
-- ticked when nothing tells = from the beginning
SELECT id, signed_at, paid_at, skip_task_check, custom, source_name, tags FROM deal WHERE id = 9101;
SELECT deal_id, contact_id, is_main, is_company, seen_at, deleted_at FROM deal_contact ORDER BY 1, 2;

-- ---------------------------------------------------------------------------
-- older and newer versions, the trash
-- ---------------------------------------------------------------------------
-- an older version changes nothing, a newer one without some keys keeps what these told
SELECT * FROM regcrm.ingest(9070, 'leads', '{"id": 9101, "name": "старое", "status_id": 23, "pipeline_id": 11, "created_at": 1767220000, "updated_at": 1767220001}');
SELECT * FROM regcrm.ingest(9070, 'leads', '{"id": 9101, "name": "новое", "status_id": 23, "pipeline_id": 11, "created_at": 1767220000, "updated_at": 1767223700, "responsible_user_id": 801, "custom_fields_values": null, "_embedded": {"tags": []}}');
SELECT name, stage, source_name, tags, meeting_at, signed_at, custom FROM deal WHERE id = 9101;
SELECT deal_id, contact_id, deleted_at FROM deal_contact ORDER BY 1, 2;
-- the trash shows nothing but that the lead is there
SELECT * FROM regcrm.ingest(9070, 'leads', '{"_embedded": {"leads": [{"id": 9104, "name": null, "status_id": null, "updated_at": 1767230000, "updated_by": 801, "is_deleted": true, "created_at": null}]}}');
SELECT id, price, stage, is_deleted, deleted_at FROM deal WHERE id = 9104;
-- the event knows better when; a late version does not bring it back, a restoration does
SELECT * FROM regcrm.ingest(9070, 'events', '[{"id": "d1", "type": "lead_deleted", "entity_id": 9104, "entity_type": "lead", "created_by": 801, "created_at": 1767229000, "value_after": [], "value_before": []}]');
SELECT * FROM regcrm.ingest(9070, 'leads', '{"id": 9104, "name": "поздно", "status_id": 142, "pipeline_id": 11, "created_at": 1767220000, "updated_at": 1767230500}');
SELECT id, name, is_deleted, deleted_at FROM deal WHERE id = 9104;
SELECT * FROM regcrm.ingest(9070, 'events', '[{"id": "d2", "type": "lead_restored", "entity_id": 9104, "entity_type": "lead", "created_by": 801, "created_at": 1767231000, "value_after": [], "value_before": []}]');
SELECT id, name, is_deleted, deleted_at FROM deal WHERE id = 9104;

-- ---------------------------------------------------------------------------
-- events
-- ---------------------------------------------------------------------------
SELECT * FROM regcrm.ingest(9070, 'events', $${"_embedded": {"events": [
 {"id": "01mq7r2x9v5c3t8e6b4n0ahdk1", "type": "lead_status_changed", "entity_id": 9101, "entity_type": "lead", "created_by": 801, "created_at": 1767223600,
  "value_after": [{"lead_status": {"id": 23, "pipeline_id": 11}}], "value_before": [{"lead_status": {"id": 22, "pipeline_id": 11}}], "oauth_client_uuid": null},
 {"id": "01mq7r2x9v5c3t8e6b4n0ahdk2", "type": "lead_status_changed", "entity_id": 9101, "entity_type": "lead", "created_by": 0, "created_at": 1767223601,
  "value_after": [{"lead_status": {"id": 32, "pipeline_id": 12}}], "value_before": [{"lead_status": {"id": 23, "pipeline_id": 11}}]},
 {"id": "01mq7r2x9v5c3t8e6b4n0ahdk3", "type": "lead_status_changed", "entity_id": 9999, "entity_type": "lead", "created_by": -1, "created_at": 1767223600,
  "value_after": [{"lead_status": {"id": "143", "pipeline_id": "11"}}], "value_before": []},
 {"id": "s4", "type": "lead_status_changed", "entity_id": 9101, "entity_type": "lead", "created_by": 801, "created_at": 1767223600, "value_after": [], "value_before": []},
 {"id": "s5", "type": "entity_responsible_changed", "entity_id": 9101, "entity_type": "lead", "created_by": 801, "created_at": 1767223650,
  "value_after": [{"responsible_user": {"id": 802}}], "value_before": [{"responsible_user": {"id": 801}}]},
 {"id": "s6", "type": "entity_responsible_changed", "entity_id": 8001, "entity_type": "contact", "created_by": 801, "created_at": 1767223650, "value_after": [], "value_before": []},
 {"id": "f1", "type": "custom_field_701_value_changed", "entity_id": 9101, "entity_type": "lead", "created_by": 801, "created_at": 1767223660,
  "value_after": [{"custom_field_value": {"field_id": 701, "field_type": 19, "enum_id": null, "text": "1767340800"}}],
  "value_before": [{"custom_field_value": {"field_id": 701, "field_type": 19, "enum_id": null, "text": "1767254400"}}]},
 {"id": "f2", "type": "custom_field_705_value_changed", "entity_id": 9101, "entity_type": "lead", "created_by": 0, "created_at": 1767223660,
  "value_after": [{"custom_field_value": {"field_id": 705, "field_type": 6, "enum_id": null, "text": "1767214800"}}], "value_before": []},
 {"id": "f3", "type": "custom_field_702_value_changed", "entity_id": 9101, "entity_type": "lead", "created_by": 801, "created_at": 1767223660,
  "value_after": [{"custom_field_value": {"field_id": 702, "field_type": 4, "enum_id": 9002, "text": null}}],
  "value_before": [{"custom_field_value": {"field_id": 702, "field_type": 4, "enum_id": 9001, "text": "Дорого"}}]},
 {"id": "f4", "type": "custom_field_706_value_changed", "entity_id": 9101, "entity_type": "lead", "created_by": 801, "created_at": 1767223670,
  "value_after": [{"custom_field_value": {"field_id": 706, "field_type": 3, "enum_id": null, "text": "1"}}], "value_before": []},
 {"id": "f5", "type": "custom_field_710_value_changed", "entity_id": 9101, "entity_type": "lead", "created_by": 801, "created_at": 1767223680,
  "value_after": [{"custom_field_value": {"field_id": 710, "field_type": 4, "enum_id": 9101, "text": "Недозвон"}}], "value_before": []},
 {"id": "f6", "type": "custom_field_710_value_changed", "entity_id": 9101, "entity_type": "lead", "created_by": 0, "created_at": 1767223681,
  "value_after": [], "value_before": [{"custom_field_value": {"field_id": 710, "field_type": 4, "enum_id": 9101, "text": "Недозвон"}}]},
 {"id": "f7", "type": "custom_field_799_value_changed", "entity_id": 9101, "entity_type": "lead", "created_by": 801, "created_at": 1767223690,
  "value_after": [{"custom_field_value": {"field_id": 799, "field_type": 5, "enum_id": 1, "text": "A"}}, {"custom_field_value": {"field_id": 799, "field_type": 5, "enum_id": 2, "text": "B"}}], "value_before": []},
 {"id": "f8", "type": "custom_field_710_value_changed", "entity_id": 9101, "entity_type": "lead", "created_by": 801, "created_at": 1767223695,
  "value_after": [{"custom_field_value": {"field_id": 710, "field_type": 4, "enum_id": 1, "text": "Своё"}}], "value_before": []},
 {"id": "f9", "type": "sale_field_changed", "entity_id": 9101, "entity_type": "lead", "created_by": 801, "created_at": 1767223696,
  "value_after": [{"sale_field_value": {"sale": 50000}}], "value_before": [{"sale_field_value": {"sale": 45000}}]},
 {"id": "o1", "type": "lead_added", "entity_id": 9101, "entity_type": "lead", "created_by": 0, "created_at": 1767220000, "value_after": [{"note": {"id": 1}}], "value_before": []},
 {"id": "o2", "type": "entity_tag_added", "entity_id": 9101, "entity_type": "lead", "created_by": 0, "created_at": 1767220000, "value_after": [{"tag": {"name": "x"}}], "value_before": []},
 {"id": "o3", "type": "robot_replied", "entity_id": 9101, "entity_type": "lead", "created_by": 0, "created_at": 1767220010, "value_after": [{"helpbot": {"id": 3}}], "value_before": []},
 {"id": "u1", "type": "hologram_projected", "entity_id": 9101, "entity_type": "lead", "created_by": 801, "created_at": 1767223600},
 {"id": "u2", "type": "lead_added", "entity_id": 9101, "entity_type": "lead", "created_by": 801, "created_at": 0},
 {"type": "lead_added", "created_at": 1767223600}
]}}$$);
SELECT source_id, deal_id, at, kind, by_bot, actor_id, from_stage, to_stage, scenario, field, value, value_before
	FROM event WHERE source = 'event' ORDER BY source_id;
SELECT id = hashtextextended('event:01mq7r2x9v5c3t8e6b4n0ahdk1', 0) & x'3fffffffffffffff'::bigint AS number_is_derived
	FROM event WHERE source_id = '01mq7r2x9v5c3t8e6b4n0ahdk1';
SELECT source_id, type, entity_type, entity_id, actor_id FROM other_event ORDER BY source_id;
SELECT source_id, error FROM quarantine WHERE entity = 'events' ORDER BY id;
-- the event said when the contract was signed, and the lead that it was
SELECT * FROM regcrm.ingest(9070, 'leads', $${"id": 9101, "name": "новое", "status_id": 23, "pipeline_id": 11, "responsible_user_id": 801, "created_at": 1767220000, "updated_at": 1767223800,
 "custom_fields_values": [{"field_id": 706, "field_type": "checkbox", "values": [{"value": true}]}], "_embedded": {"contacts": [{"id": 8001, "is_main": true}], "companies": []}}$$);
SELECT signed_at, paid_at, in_regulation FROM deal WHERE id = 9101;

-- ---------------------------------------------------------------------------
-- tasks
-- ---------------------------------------------------------------------------
SELECT * FROM regcrm.ingest(9070, 'events', $$[
 {"id": "t1", "type": "task_completed", "entity_id": 6002, "entity_type": "task", "created_by": 801, "created_at": 1767223000, "value_after": [], "value_before": []},
 {"id": "t2", "type": "task_deleted", "entity_id": 6003, "entity_type": "task", "created_by": 801, "created_at": 1767223500, "value_after": [], "value_before": []},
 {"id": "t3", "type": "task_completed", "entity_id": 6003, "entity_type": "task", "created_by": 801, "created_at": 1767223100, "value_after": [], "value_before": []}]$$);
SELECT * FROM regcrm.ingest(9070, 'tasks', $${"_embedded": {"tasks": [
 {"id": 6001, "created_by": 801, "updated_by": 801, "created_at": 1767220000, "updated_at": 1767223600, "responsible_user_id": 801, "group_id": 0, "entity_id": 9101,
  "entity_type": "leads", "is_completed": false, "task_type_id": 1, "text": "ПЕРЕЗВОНИТЬ", "duration": 0, "complete_till": 1767254400, "result": null},
 {"id": 6002, "created_by": 0, "created_at": 1767220000, "updated_at": 1767223600, "responsible_user_id": 801, "entity_id": 9101, "entity_type": "leads",
  "is_completed": true, "task_type_id": 1, "text": "Обработать заявку", "complete_till": "1767254400", "result": {"text": "Договорились"}},
 {"id": 6003, "created_by": -1, "created_at": 1767220000, "updated_at": 1767223200, "entity_id": 9101, "entity_type": "leads", "is_completed": true,
  "task_type_id": 2, "text": "Контроль встречи, взять договор", "complete_till": 1767254400, "result": []},
 {"id": 6004, "created_by": 801, "created_at": 1767220000, "updated_at": 1767223600, "entity_id": 9101, "entity_type": "leads", "is_completed": true,
  "task_type_id": 2610101, "text": "", "complete_till": 1767254400, "result": []},
 {"id": 6005, "created_by": 801, "created_at": 1767220000, "updated_at": 1767223600, "entity_id": 8001, "entity_type": "contacts", "is_completed": false,
  "task_type_id": 1, "text": "Поздравить", "complete_till": 1767254400, "result": null},
 {"id": 6006, "created_at": 1767220000, "entity_id": null, "entity_type": null, "complete_till": null},
 {"id": 6007, "created_at": 1767220000, "entity_id": null, "entity_type": null, "complete_till": 99999999999}]}}$$);
-- seen completed earlier in an older page
SELECT * FROM regcrm.ingest(9070, 'tasks', '{"id": 6004, "created_by": 801, "created_at": 1767220000, "updated_at": 1767222000, "entity_id": 9101, "entity_type": "leads", "is_completed": 1, "complete_till": 1767254400}');
SELECT id, deal_id, kind, body, manager_id, by_bot, due_at, completed_at, result, deleted_at FROM task ORDER BY id;
SELECT source_id, error FROM quarantine WHERE entity = 'tasks' ORDER BY id;

-- ---------------------------------------------------------------------------
-- notes: calls on a contact with no, one and two open leads
-- ---------------------------------------------------------------------------
SELECT * FROM regcrm.ingest(9070, 'notes', $${"_links": {"self": {"href": "https://acme.amocrm.ru/api/v4/contacts/notes?page=1"}}, "_embedded": {"notes": [
 {"id": 5001, "entity_id": 8010, "created_by": 801, "updated_by": 801, "created_at": 1767240000, "updated_at": 1767240000, "responsible_user_id": 801, "note_type": "call_out",
  "params": {"uniq": "a1b2", "duration": 73, "source": "Mango", "phone": "+79990000000", "call_responsible": 801, "call_result": "Договорились", "call_status": 4}},
 {"id": 5002, "entity_id": 8011, "created_by": 899, "created_at": 1767240000, "updated_at": 1767240000, "responsible_user_id": 802, "note_type": "call_in",
  "params": {"duration": "9", "call_responsible": "802"}},
 {"id": 5003, "entity_id": 8012, "created_by": 0, "created_at": 1767240000, "updated_at": 1767240000, "responsible_user_id": 0, "note_type": "call_out",
  "params": {"duration": 120, "call_status": null, "call_responsible": 802}},
 {"id": 5004, "entity_id": 8012, "created_by": 0, "created_at": 1767240000, "updated_at": 1767240000, "note_type": "call_in", "params": {"duration": 60, "call_status": 6}},
 {"id": 5005, "entity_id": 8012, "created_by": 801, "created_at": 1767240000, "updated_at": 1767240000, "note_type": "call_in", "params": []},
 {"id": 5006, "entity_id": 8012, "created_by": 801, "created_at": 1767240000, "updated_at": 1767240000, "note_type": "call_in", "params": {"duration": 1e18}},
 {"id": 5007, "entity_id": 8012, "created_by": 801, "created_at": 1767240000, "updated_at": 1767240000, "note_type": "common", "params": {"text": "о человеке"}}]}}$$);
SELECT source_id, deal_id, contact_id, kind, at, actor_id, answered, duration, by_bot, guessed, body FROM event WHERE source = 'note' ORDER BY source_id;
SELECT source_id, error FROM quarantine WHERE entity = 'notes' ORDER BY id;
-- the leads come, with their links: 8010 has none open, 8011 one, 8012 two
SELECT * FROM regcrm.ingest(9070, 'leads', $${"_embedded": {"leads": [
 {"id": 9110, "status_id": 143, "pipeline_id": 11, "responsible_user_id": 801, "created_at": 1767200000, "updated_at": 1767230000, "closed_at": 1767230000, "custom_fields_values": null, "_embedded": {"contacts": [{"id": 8010, "is_main": true}]}},
 {"id": 9111, "status_id": 22, "pipeline_id": 11, "responsible_user_id": 801, "created_at": 1767200000, "updated_at": 1767230000, "closed_at": null, "custom_fields_values": null, "_embedded": {"contacts": [{"id": 8011, "is_main": true}]}},
 {"id": 9112, "status_id": 143, "pipeline_id": 11, "responsible_user_id": 802, "created_at": 1767200000, "updated_at": 1767230000, "closed_at": 1767230000, "custom_fields_values": null, "_embedded": {"contacts": [{"id": 8011, "is_main": true}]}},
 {"id": 9113, "status_id": 22, "pipeline_id": 11, "responsible_user_id": 802, "created_at": 1767200000, "updated_at": 1767230000, "closed_at": null, "custom_fields_values": null, "_embedded": {"contacts": [{"id": 8012, "is_main": true}]}},
 {"id": 9114, "status_id": 22, "pipeline_id": 11, "responsible_user_id": 803, "created_at": 1767200001, "updated_at": 1767230000, "closed_at": null, "custom_fields_values": null, "_embedded": {"contacts": [{"id": 8012, "is_main": true}]}}]}}$$);
SELECT source_id, deal_id, contact_id, actor_id, guessed FROM event WHERE source = 'note' ORDER BY source_id;
-- the closed one is opened again soon after the call: it was meant
SELECT * FROM regcrm.ingest(9070, 'events', $$[{"id": "r1", "type": "lead_status_changed", "entity_id": 9110, "entity_type": "lead", "created_by": 801, "created_at": 1767241000,
  "value_after": [{"lead_status": {"id": 23, "pipeline_id": 11}}], "value_before": [{"lead_status": {"id": 143, "pipeline_id": 11}}]}]$$);
SELECT source_id, deal_id, guessed FROM event WHERE source_id = '5001';

-- comments, traces of bots, short messages; notes of a page that says nothing of what they are about
SELECT * FROM regcrm.ingest(9070, 'leads_notes', $$[
 {"id": 5101, "entity_id": 9101, "created_by": 801, "created_at": 1767224000, "updated_at": 1767224000, "note_type": "common", "params": {"text": "думает"}},
 {"id": 5102, "entity_id": 9101, "created_by": 0, "created_at": 1767224000, "updated_at": 1767224000, "note_type": "extended_service_message", "params": {"service": "Salesbot", "text": "Бот запущен"}},
 {"id": 5103, "entity_id": 9101, "created_by": 0, "created_at": 1767224000, "updated_at": 1767224000, "note_type": "service_message", "params": {"service": "Почта", "text": "Новая работа"}},
 {"id": 5104, "entity_id": 9101, "created_by": 801, "created_at": 1767224000, "updated_at": 1767224000, "note_type": "sms_out", "params": {"text": "ждём", "phone": "+7"}},
 {"id": 5105, "entity_id": 9101, "created_by": 801, "created_at": 1767224000, "updated_at": 1767224000, "note_type": "attachment", "params": {"text": "скан.pdf"}},
 {"id": 5106, "entity_id": 9101, "created_by": 801, "created_at": 1767224000, "updated_at": 1767224000, "note_type": "never_seen", "params": null}]$$);
SELECT * FROM regcrm.ingest(9070, 'notes', $$[
 {"id": 5201, "entity_id": 9101, "created_by": 801, "created_at": 1767224100, "updated_at": 1767224100, "note_type": "common", "params": {"text": "чей-то"}},
 {"id": 5202, "entity_id": 8011, "created_by": 801, "created_at": 1767240100, "updated_at": 1767240100, "note_type": "call_out", "params": {"duration": 0}},
 {"id": 5203, "entity_id": 9101, "created_by": 801, "created_at": 1767224100, "updated_at": 1767224100, "note_type": "common", "params": {"text": "свой"}, "_links": {"self": {"href": "https://acme.amocrm.ru/api/v4/leads/9101/notes/5203"}}}]$$);
-- edited since
SELECT * FROM regcrm.ingest(9070, 'leads_notes', '[{"id": 5101, "entity_id": 9101, "created_by": 801, "created_at": 1767224000, "updated_at": 1767224500, "note_type": "common", "params": {"text": "думает до пятницы"}}]');
SELECT source_id, deal_id, contact_id, kind, by_bot, actor_id, channel, body FROM event WHERE source = 'note' AND source_id >= '5101' ORDER BY source_id;
SELECT source_id, type FROM other_event WHERE type LIKE 'note:%' ORDER BY 1;
-- the telephony stamps the end of a call
UPDATE regcrm.account SET call_notes_at = 'end' WHERE id = 9070;
SELECT source_id, at FROM event WHERE kind IN ('call_in', 'call_out') ORDER BY source_id;

-- ---------------------------------------------------------------------------
-- chat: messages by robots, talks
-- ---------------------------------------------------------------------------
SELECT * FROM regcrm.ingest(9070, 'events', $$[
 {"id": "m1", "type": "outgoing_chat_message", "entity_id": 9111, "entity_type": "lead", "created_by": 0, "created_at": 1767250010, "value_after": [{"message": {"id": "b1", "origin": "waba", "talk_id": 5501}}], "value_before": []},
 {"id": "m2", "type": "outgoing_chat_message", "entity_id": 9111, "entity_type": "lead", "created_by": 0, "created_at": 1767250016, "value_after": [{"message": {"id": "b2", "origin": "waba", "talk_id": 5501}}], "value_before": []},
 {"id": "m3", "type": "outgoing_chat_message", "entity_id": 9111, "entity_type": "lead", "created_by": 801, "created_at": 1767250001, "value_after": [{"message": {"id": "b3"}}], "value_before": []},
 {"id": "m4", "type": "incoming_chat_message", "entity_id": 8011, "entity_type": "contact", "created_by": 0, "created_at": 1767250020, "value_after": [{"message": {"id": "b4", "origin": "telegram", "talk_id": 5501}}], "value_before": []},
 {"id": "m5", "type": "incoming_chat_message", "entity_id": 8013, "entity_type": "contact", "created_by": 0, "created_at": 1767250020, "value_after": [{"message": {"id": "b5", "origin": "telegram", "talk_id": 5502}}], "value_before": []},
 {"id": "b1", "type": "outgoing_chat_message", "entity_id": 9301, "entity_type": "lead", "created_by": 0, "created_at": 1767260000, "value_after": [{"message": {"id": "c1"}}], "value_before": []},
 {"id": "b2", "type": "outgoing_chat_message", "entity_id": 9302, "entity_type": "lead", "created_by": 0, "created_at": 1767260000, "value_after": [{"message": {"id": "c2"}}], "value_before": []},
 {"id": "b3", "type": "outgoing_chat_message", "entity_id": 9303, "entity_type": "lead", "created_by": 0, "created_at": 1767260000, "value_after": [{"message": {"id": "c3"}}], "value_before": []},
 {"id": "b4", "type": "outgoing_chat_message", "entity_id": 9304, "entity_type": "lead", "created_by": 0, "created_at": 1767260000, "value_after": [{"message": {"id": "c4"}}], "value_before": []}]$$);
SELECT source_id, deal_id, kind, by_bot, actor_id, channel, talk_id FROM event WHERE kind IN ('message_in', 'message_out') AND source = 'event' ORDER BY source_id;
-- what was a person's becomes a bot's: an incoming one just before, and the fifth deal of the second
SELECT * FROM regcrm.ingest(9070, 'events', $$[
 {"id": "m0", "type": "incoming_chat_message", "entity_id": 9111, "entity_type": "lead", "created_by": 801, "created_at": 1767250000, "value_after": [{"message": {"id": "b0", "origin": "waba", "talk_id": 5501}}], "value_before": []},
 {"id": "b5", "type": "outgoing_chat_message", "entity_id": 9305, "entity_type": "lead", "created_by": 0, "created_at": 1767260000, "value_after": [{"message": {"id": "c5"}}], "value_before": []}]$$);
SELECT source_id, deal_id, by_bot, actor_id FROM event WHERE kind IN ('message_in', 'message_out') AND source = 'event' ORDER BY source_id;
SELECT feed, since FROM feed ORDER BY 1;

-- ---------------------------------------------------------------------------
-- contacts and links
-- ---------------------------------------------------------------------------
SELECT * FROM regcrm.ingest(9070, 'contacts', $${"_embedded": {"contacts": [
 {"id": 8013, "name": "Пётр", "first_name": "Пётр", "last_name": "", "responsible_user_id": 801, "created_at": 1767200000, "updated_at": 1767250100,
  "custom_fields_values": [{"field_id": 703, "field_code": "PHONE", "values": [{"value": "+79990000001"}]}], "_embedded": {"tags": [], "companies": [], "leads": [{"id": 9114}]}},
 {"id": null, "name": "никто"}]}}$$);
SELECT id, name, raw::text LIKE '%7999%' AS phone_is_kept FROM contact ORDER BY id;
-- its message came before the link
SELECT source_id, deal_id, contact_id, guessed FROM event WHERE source_id = 'm5';
SELECT * FROM regcrm.ingest(9070, 'events', $$[
 {"id": "l1", "type": "entity_unlinked", "entity_id": 9113, "entity_type": "lead", "created_by": 801, "created_at": 1767235000, "value_after": [], "value_before": [{"unlink": {"entity": {"type": "contact", "id": 8012}}}]},
 {"id": "l2", "type": "entity_linked", "entity_id": 9114, "entity_type": "lead", "created_by": 801, "created_at": 1767235000, "value_after": [{"link": {"entity": {"type": "contact", "id": 8014}}}], "value_before": []}]$$);
SELECT deal_id, contact_id, is_main, is_company, deleted_at FROM deal_contact WHERE deal_id >= 9113 ORDER BY 1, 2;
-- so the calls of 8012 were about the other one
SELECT source_id, deal_id, guessed FROM event WHERE contact_id = 8012 ORDER BY source_id;

-- ---------------------------------------------------------------------------
-- corrected mappings
-- ---------------------------------------------------------------------------
UPDATE regcrm.stage_map SET stage = 'deciding' WHERE account_id = 9070 AND pipeline_id = 11 AND status_id = 23;
INSERT INTO regcrm.stage_map (pipeline_id, status_id, stage) VALUES (12, 32, 'contract');
SELECT id, stage FROM deal WHERE id = 9101;
SELECT source_id, from_stage, to_stage FROM event WHERE source_id LIKE '01mq%' ORDER BY 1;
-- the user's word stands; with it 142, 143 and Неразобранное of that pipeline are mapped
SELECT taken FROM regcrm.ingest(9070, 'pipelines', '{"id": 11, "name": "Продажи", "sort": 1, "_embedded": {"statuses": [{"id": 23, "name": "Ведётся переписка", "sort": 30, "type": 0}]}}');
SELECT pipeline_id, status_id, stage, by_user FROM stage_map ORDER BY 1, 2;
SELECT id, stage, in_regulation FROM deal WHERE id = 9103;

INSERT INTO regcrm.field_map (field_id, field) VALUES (799, 'branch');
UPDATE regcrm.field_map SET field = NULL WHERE account_id = 9070 AND field_id = 706;
SELECT source_id, kind, field, value FROM event WHERE source_id IN ('f4', 'f7') ORDER BY 1;
SELECT signed_at, custom FROM deal WHERE id = 9101;
SELECT feed FROM feed ORDER BY 1;

INSERT INTO regcrm.task_kind_map (pattern, kind) VALUES ('поздрав', 'greeting');
UPDATE regcrm.task_kind_map SET kind = 'meeting_control' WHERE account_id = 9070 AND pattern = 'перезвон';
SELECT id, kind FROM task ORDER BY id;

-- names of scenarios are the regulation's to say
INSERT INTO regcrm.scenario (regulation, code, name) VALUES ('idrive', 'own', 'СВОЁ');
SELECT FROM regcrm.remap(9070);
SELECT source_id, kind, scenario, value FROM event WHERE kind = 'scenario' ORDER BY source_id;

SELECT gap, id, name, rules FROM regcrm.mapping_gaps WHERE account_id = 9070 ORDER BY gap, id;

-- ---------------------------------------------------------------------------
-- quarantine
-- ---------------------------------------------------------------------------
SELECT count(*) AS before FROM quarantine;
-- once only
SELECT * FROM regcrm.ingest(9070, 'leads', '[{"name": "без номера"}, 7]');
SELECT count(*) AS after FROM quarantine;
-- bytes that no text may hold
SELECT FROM regcrm.quarantine_element(9070, 'leads', convert_to('{"id": 9401, "name": "Заявка\u0000с \ud83d нулём \\u0000", "created_at": 1767220000}', 'UTF8') , '22P05: unsupported Unicode escape sequence');
SELECT FROM regcrm.quarantine_element(9070, 'leads', convert_to('{"id": 9402, "name": "', 'UTF8') || '\xff00d0'::bytea || convert_to('я", "created_at": 1767220000}', 'UTF8'), 'invalid byte sequence');
SELECT FROM regcrm.quarantine_element(9070, 'leads', '{"id": 9403, "name": "cut', 'unexpected end');
SELECT FROM regcrm.quarantine_element(9070, 'leads', '{"id": 9403, "name": "cut', 'unexpected end');
SELECT source_id, sqlstate, error FROM quarantine WHERE body IS NOT NULL ORDER BY id;
-- the user of an element that could not be read has got a number since
UPDATE regcrm.quarantine SET page = jsonb_set(page, '{price}', '12') WHERE account_id = 9070 AND source_id = '9105';
SELECT * FROM regcrm.retry_quarantine(9070);
SELECT id, name, price FROM deal WHERE id IN (9105, 9401, 9402, 9403) ORDER BY id;
SELECT source_id, error FROM quarantine WHERE body IS NOT NULL AND resolved_at IS NULL;

-- ---------------------------------------------------------------------------
-- whom forget() erased stays so
-- ---------------------------------------------------------------------------
INSERT INTO regcrm.forgotten (deal_id) VALUES (9501);
SELECT * FROM regcrm.ingest(9070, 'leads', '[{"id": 9501, "created_at": 1767220000}, {"id": 9502, "created_at": 1767220000}]');
SELECT * FROM regcrm.ingest(9070, 'tasks', '[{"id": 6501, "entity_id": 9501, "entity_type": "leads", "created_at": 1767220000, "complete_till": 1767220000}]');
SELECT id FROM deal WHERE id > 9500 ORDER BY 1;
SELECT count(*) FROM task WHERE id = 6501;

-- ---------------------------------------------------------------------------
-- nothing was appended, and pages taken again change nothing
-- ---------------------------------------------------------------------------
SELECT count(*) FROM event WHERE source = 'regcrm';
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK;
