-- Single values of what amoCRM sends, well formed and odd: what each is read as.
-- No value is an error; what can't be read is null here and "bad" where it may not be.
SET client_min_messages = warning;
CREATE EXTENSION regcrm;
SET TimeZone = 'UTC';
\pset null -
\pset format unaligned

CREATE TEMP TABLE v (n int GENERATED ALWAYS AS IDENTITY, v jsonb);
INSERT INTO v (v) VALUES (NULL), ('null'), ('true'), ('false'), ('[]'), ('{}'), ('[1]'), ('{"a": 1}'), ('[[]]'),
	('0'), ('-0'), ('0.0'), ('1'), ('1.0'), ('1.5'), ('-1'), ('-1.5'), ('0.5'), ('-0.5'), ('12.50'), ('1e3'),
	-- fifteen digits are a number, sixteen are not
	('999999999999999'), ('999999999999999.5'), ('1000000000000000'), ('-999999999999999'), ('-1000000000000000'), ('1e300'),
	-- the last second of 2199
	('7258118399'), ('7258118399.0'), ('7258118399.5'), ('7258118400'), ('7258118398.9'), ('1767220000'),
	-- numbers as text
	('""'), ('"0"'), ('"1"'), ('"-1"'), ('"+1"'), ('"-0"'), ('"007"'), ('" 12 "'), ('"\t12\n"'), ('"1 2"'), ('"12x"'), ('"-"'), ('"."'), ('".5"'),
	('"1."'), ('"1.0"'), ('"1.5"'), ('"1e3"'), ('"0x1"'), ('"1767220000"'), ('"1767220000.5"'), ('"7258118399"'), ('"7258118400"'),
	('"999999999999999"'), ('"9999999999999999"'), ('"0000000000000001"'), ('"1.000000000000000"'), ('"1.0000000000000000"'),
	('"true"'), ('"True"'), ('"text"'), ('"Ё"'), ('"NaN"'), ('"infinity"');
SELECT left(v::text, 30) AS v, regcrm.json_unset(v) AS unset, regcrm.json_number(v) AS number, regcrm.json_whole(v) AS whole, regcrm.json_id(v) AS id,
	regcrm.bad_whole(v) AS bad_whole, regcrm.json_true(v) AS yes
FROM v ORDER BY n;
SELECT left(v::text, 30) AS v, regcrm.json_time(v) AS time, regcrm.bad_time(v) AS bad_time, left(regcrm.json_text(v), 20) AS text, regcrm.json_list(v) AS list
FROM v ORDER BY n;

-- values of a custom field
SELECT v, regcrm.values_text(v)
FROM (VALUES (1, NULL::jsonb), (2, 'null'), (3, '7'), (4, '[]'), (5, '[{"value": "Центр"}]'), (6, '[{"value": 1767220000}]'), (7, '[{"value": null}]'),
	(8, '[{"value": true}]'), (9, '[{"enum_id": 5}]'), (10, '[{"value": "a", "enum_id": 1}, {"value": "b"}]'), (11, '["a", 1, null]'), (12, '[{}]'), (13, '{"value": 1}')) x(n, v)
ORDER BY n;

-- types of events
SELECT type, regcrm.event_kind(type, 'lead') AS of_lead, regcrm.event_kind(type, 'task') AS of_task
FROM unnest('{lead_status_changed,custom_field_12_value_changed,custom_field__value_changed,custom_field_1234567890123456_value_changed,custom_fields,name_field_changed,
	incoming_chat_message,robot_replied,lead_added,leads_added,customer_unlinked,entity_merged,entity_added,task_result_added,task_restored,incoming_call,outgoing_call_x,
	geo_note_added,geo_note,video_x,video_,video_X,talk_created,ai_result,dropbox_attachment,never_heard_of}'::text[]) AS type;
DROP EXTENSION regcrm;
