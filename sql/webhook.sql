-- Webhooks: what of a body is kept, what is asked for, what goes to quarantine.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS regcrm;
SELECT FROM regcrm.setup();
RESET client_min_messages;
SET intervalstyle = 'postgres';
INSERT INTO regcrm.account (id, name, base_url, known_until) VALUES (30111222, 'Школа', 'https://school.example', '-infinity');
INSERT INTO regcrm.account (id, name) VALUES (5, 'by SQL');

-- the form: containers are objects, values texts
SELECT tree, damaged, error FROM regcrm.read_webhook('leads%5Bstatus%5D%5B0%5D%5Bid%5D=9101&leads[status][0][name]=%D0%9E%D0%BB%D1%8F+%26+%D0%9C&account[id]=30111222');
SELECT tree, damaged, error FROM regcrm.read_webhook('m[type]=3&m[type][message_uuid]=u');
SELECT tree, damaged, error FROM regcrm.read_webhook('a=x%00y');
SELECT tree, damaged, error FROM regcrm.read_webhook('');
SELECT tree, damaged, error FROM regcrm.read_webhook('a' || repeat('[b]', 16) || '=1');
SELECT tree, damaged, error FROM regcrm.read_webhook(repeat('a', 1048577));
SELECT tree, damaged, error FROM regcrm.read_webhook(NULL);

-- a move: no deal is changed, a pass is asked for, at once
SELECT * FROM regcrm.ingest_webhook(30111222,
	'leads[status][0][id]=9101&leads[status][0][status_id]=23&leads[status][0][pipeline_id]=11&leads[status][0][old_status_id]=22'
	'&leads[status][0][last_modified]=1767223600&account[id]=30111222&account[subdomain]=acme&account[_links][self]=https://acme.amocrm.ru');
SELECT count(*) AS deals FROM regcrm.deal;
SELECT count(*) AS events FROM regcrm.event;
SELECT bodies, elements, messages, unreadable, regcrm.webhook_due(account_id) - first_at AS due FROM regcrm.webhook;

-- once a pass has begun late enough, nothing waits; before that, the first hint counts
INSERT INTO regcrm.sync_state (account_id, entity, updated_at) VALUES (30111222, 'account', clock_timestamp() + interval '7 s');
SELECT regcrm.webhook_due(30111222);
UPDATE regcrm.sync_state SET updated_at = clock_timestamp() - interval '1 min';
SELECT regcrm.webhook_due(30111222) = first_at + interval '6 s' AS first FROM regcrm.webhook;
UPDATE regcrm.webhook SET first_at = clock_timestamp() - interval '10 s';
UPDATE regcrm.sync_state SET updated_at = clock_timestamp() - interval '3 s';
SELECT regcrm.webhook_due(30111222) = last_at + interval '6 s' AS last FROM regcrm.webhook;
-- hints without end do not put it off for ever
UPDATE regcrm.webhook SET last_at = clock_timestamp() + interval '1 min';
SELECT regcrm.webhook_due(30111222) = s.updated_at + interval '12 s' AS bounded FROM regcrm.sync_state s;
SELECT regcrm.webhook_due(5) IS NULL AS none;

-- several actions, indexes and entities; notes and talks by their own ids
SELECT * FROM regcrm.ingest_webhook(30111222,
	'leads[add][0][id]=1&leads[add][1][id]=2&leads[update][0][id]=1&contacts[add][0][id]=7&contacts[add][0][type]=company'
	'&task[update][0][id]=6001&task[update][0][complete_till]=2026-03-02+10%3A00%3A00'
	'&leads[note][0][note][id]=5001&leads[note][0][note][note_type]=10&talk[add][0][talk_id]=5501&unsorted[add][0][uid]=u1&account[id]=30111222');

-- a message: its text is kept, once, whatever comes again and in whatever order
SELECT * FROM (VALUES ('message[add][0][id]=c0ffee00-1&message[add][0][text]=%D0%94%D0%BE%D0%B1%D1%80%D1%8B%D0%B9+%D0%B4%D0%B5%D0%BD%D1%8C'
	'&message[add][0][created_at]=1767223600&message[add][0][type]=incoming&message[add][0][type][uuid]=x&message[add][0][element_type]=2'
	'&message[add][0][entity_type]=lead&message[add][0][entity_id]=9101&message[add][0][author][id]=801&account[id]=30111222')) v(m),
	regcrm.ingest_webhook(30111222, m) a, regcrm.ingest_webhook(30111222, m) b;
SELECT source_id, type, entity_type, entity_id, extract(epoch FROM at) AS at, actor_id, raw ->> 'text' AS text, raw -> 'type' AS clash
	FROM regcrm.other_event;
SELECT messages FROM regcrm.webhook;

-- what can't be read is kept, once, and stays what it is when tried again
SELECT * FROM regcrm.ingest_webhook(30111222, 'leads[status][0][status_id]=23&account[id]=30111222');
SELECT * FROM regcrm.ingest_webhook(30111222, 'leads[status][0][id]=9101&account[id]=4');
SELECT * FROM regcrm.ingest_webhook(30111222, 'leads[status][0][id]=9101&account[id]=4');
SELECT * FROM regcrm.ingest_webhook(30111222, 'account[id]=30111222');
SELECT * FROM regcrm.ingest_webhook(30111222, '{"leads": []}');
SELECT * FROM regcrm.ingest_webhook(30111222, '');
SELECT * FROM regcrm.ingest_webhook(30111222, 'leads[update][0][id]=3&leads[update][0][name]=%ff%00');
SELECT entity, source_id, sqlstate, error, convert_from(body, 'UTF8') AS body, page FROM regcrm.quarantine ORDER BY id;
SELECT regcrm.retry_quarantine(30111222);
SELECT count(*) AS still FROM regcrm.quarantine WHERE resolved_at IS NULL;
-- a body of another account is taken once it can be: here, after its number was corrected by hand
UPDATE regcrm.quarantine SET body = convert_to('leads[status][0][id]=9101&account[id]=30111222', 'UTF8') WHERE error LIKE '%of account 4';
SELECT regcrm.retry_quarantine(30111222);

-- whom forget() erased stays so
SELECT regcrm.forget(30111222, 9101);
SELECT count(*) AS texts FROM regcrm.other_event;
SELECT * FROM regcrm.ingest_webhook(30111222, 'message[add][0][id]=c0ffee00-2&message[add][0][text]=x&message[add][0][entity_type]=lead&message[add][0][entity_id]=9101');
SELECT count(*) AS texts FROM regcrm.other_event;

-- should fail
SELECT regcrm.ingest_webhook(77, 'leads[add][0][id]=1');
SELECT regcrm.ingest_webhook(5, NULL);
CREATE ROLE regress_hook;
GRANT USAGE ON SCHEMA regcrm TO regress_hook;
SET ROLE regress_hook;
SELECT regcrm.ingest_webhook(5, 'leads[add][0][id]=1');
RESET ROLE;

-- as docs/webhooks.md has it: who may call may do nothing else
CREATE SCHEMA hook;
CREATE FUNCTION hook.take(body text) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS 'SELECT FROM regcrm.ingest_webhook(30111222, body)';
REVOKE EXECUTE ON FUNCTION hook.take(text) FROM PUBLIC;
REVOKE USAGE ON SCHEMA regcrm FROM regress_hook;
GRANT USAGE ON SCHEMA hook TO regress_hook;
GRANT EXECUTE ON FUNCTION hook.take(text) TO regress_hook;
SELECT bodies FROM regcrm.webhook WHERE account_id = 30111222 \gset
SET ROLE regress_hook;
SELECT hook.take('leads[add][0][id]=8&account[id]=30111222');
SELECT count(*) FROM regcrm.deal;
RESET ROLE;
SELECT bodies - :bodies AS more FROM regcrm.webhook WHERE account_id = 30111222;
REVOKE ALL ON SCHEMA hook FROM regress_hook;
REVOKE ALL ON FUNCTION hook.take(text) FROM regress_hook;
DROP ROLE regress_hook;
