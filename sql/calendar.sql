--
-- Business time
--
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS regcrm CASCADE;
DROP SCHEMA IF EXISTS regcrm CASCADE;
CREATE EXTENSION regcrm;
SET TimeZone = 'Europe/Moscow';
SET intervalstyle = 'postgres';
SET datestyle = 'ISO';

SELECT regcrm.add_business_time('2026-05-08 16:30', '1 hour', 'ru-5x2');	-- fails: no tables
SELECT regcrm.setup();

-- 2026-05-08 is a short Friday, the 9th and 10th a weekend, the 11th a holiday
SELECT d, regcrm.add_business_time('2026-05-08 16:30', d::interval, 'ru-5x2') AS at
FROM unnest('{0,1 second,30 minutes,30 minutes 1 second,1 hour,9 hours 30 minutes,1 day,-7:30,-7:31}'::text[]) d;
SELECT regcrm.business_time_between('2026-05-08 16:30', '2026-05-12 09:30', 'ru-5x2') AS there,
	   regcrm.business_time_between('2026-05-12 09:30', '2026-05-08 16:30', 'ru-5x2') AS back,
	   regcrm.business_time_between('2026-05-09', '2026-05-12', 'ru-5x2') AS free;
-- a Saturday that is worked
SELECT regcrm.business_time_between('2024-04-27', '2024-04-28', 'ru-5x2');

-- Without a calendar every hour counts; nothing of nothing is nothing
SELECT regcrm.add_business_time('2026-05-08 16:30', '1 day', NULL),
	   regcrm.business_time_between('2026-05-08 16:30', '2026-05-10 17:00', NULL);
SELECT regcrm.add_business_time(NULL, '1 day', 'ru-5x2'), regcrm.add_business_time(now(), NULL, 'ru-5x2'),
	   regcrm.business_time_between(NULL, now(), 'ru-5x2');

-- What can't be answered; all fail, but for the first
SELECT regcrm.add_business_time('infinity', '1 hour', 'ru-5x2'), regcrm.add_business_time('-infinity', '1 hour', NULL);
SELECT regcrm.business_time_between('2026-05-08', 'infinity', 'ru-5x2');
SELECT regcrm.business_time_between('-infinity', '2026-05-08', NULL);
SELECT regcrm.add_business_time('2026-05-08', '1 month', 'ru-5x2');
SELECT regcrm.add_business_time('2026-05-08', '1 hour', 'ru-6x1');
\echo :SQLSTATE
SELECT regcrm.add_business_time('2026-05-08', '1 hour', 'ru-5x2', 'Mars/Phobos');
SELECT regcrm.add_business_time('2026-05-08', '1000000 hours', 'ru-5x2');
SELECT regcrm.add_business_time('1999-05-08', '1 hour', 'ru-5x2');
SELECT regcrm.business_time_between('2026-05-08', '2126-05-08', 'ru-5x2');
SELECT regcrm.add_business_time('294276-12-31', '1000 hours', NULL);
SELECT regcrm.add_business_time('2026-05-08', '2147483647 days 2562047788 hours', 'ru-5x2');

-- The session's zone has no say; the calendar's own comes first, then the argument,
-- then that of the account, then Moscow
SET TimeZone = 'America/New_York';
SELECT regcrm.add_business_time('2026-05-08 16:30+03', '1 hour', 'ru-5x2') AT TIME ZONE 'Europe/Moscow' AS moscow;
SET TimeZone = 'Europe/Moscow';
SELECT regcrm.add_business_time('2026-05-08 16:30+10', '1 hour', 'ru-5x2', 'Asia/Vladivostok') AT TIME ZONE 'Asia/Vladivostok' AS argument;
INSERT INTO regcrm.account (id, time_zone) VALUES (1, 'Asia/Vladivostok');
SELECT regcrm.add_business_time('2026-05-08 16:30+10', '1 hour', 'ru-5x2') AT TIME ZONE 'Asia/Vladivostok' AS only_account;
INSERT INTO regcrm.account (id, time_zone) VALUES (2, 'Europe/Kaliningrad');
SELECT regcrm.add_business_time('2026-05-08 16:30+03', '1 hour', 'ru-5x2') AT TIME ZONE 'Europe/Moscow' AS of_several_none;
SET regcrm.account_id = 2;
SELECT regcrm.add_business_time('2026-05-08 16:30+02', '1 hour', 'ru-5x2') AT TIME ZONE 'Europe/Kaliningrad' AS named_account;
UPDATE regcrm.account SET time_zone = 'Asia/Omsk' WHERE id = 2;
SELECT regcrm.add_business_time('2026-05-08 16:30+06', '1 hour', 'ru-5x2') AT TIME ZONE 'Asia/Omsk' AS as_it_is_now;
RESET regcrm.account_id;
UPDATE regcrm.calendar SET time_zone = 'Asia/Yekaterinburg' WHERE name = 'ru-5x2';
SELECT regcrm.add_business_time('2026-05-08 16:30+05', '1 hour', 'ru-5x2', 'Europe/Moscow') AT TIME ZONE 'Asia/Yekaterinburg' AS own;
UPDATE regcrm.calendar SET time_zone = NULL WHERE name = 'ru-5x2';

-- Changes are seen at once, in the same transaction too, and undone with it
BEGIN;
INSERT INTO regcrm.calendar_day (calendar, day, note) VALUES ('ru-5x2', '2026-05-12', 'ремонт');
SELECT regcrm.add_business_time('2026-05-08 16:30', '1 hour', 'ru-5x2');
ROLLBACK;
SELECT regcrm.add_business_time('2026-05-08 16:30', '1 hour', 'ru-5x2');

-- Weeks that change from a date on, two stretches a day, midnight
INSERT INTO regcrm.calendar VALUES ('shifts', 'Смены', 'Europe/Berlin');
SELECT regcrm.add_business_time(now(), '1 hour', 'shifts');	-- fails: no hours
INSERT INTO regcrm.calendar_week (calendar, weekday, opens, closes)
	SELECT 'shifts', d, o, c FROM generate_series(1, 7) d, (VALUES (time '10:00', time '13:00'), ('14:00', '19:00')) h(o, c);
INSERT INTO regcrm.calendar_week (calendar, from_date, weekday, opens, closes)
	SELECT 'shifts', '2026-03-01', d, '00:00', '24:00' FROM generate_series(1, 7) d;
SET TimeZone = 'Europe/Berlin';
SELECT regcrm.business_time_between('2026-02-27', '2026-02-28', 'shifts') AS before,
	   regcrm.business_time_between('2026-02-28 18:00', '2026-03-01 01:00', 'shifts') AS over_midnight,
	   regcrm.add_business_time('2026-02-28 18:30', '1 hour', 'shifts') AS at,
	   -- the day on which clocks go forward, and the one on which they go back
	   regcrm.business_time_between('2026-03-29', '2026-03-30', 'shifts') AS short,
	   regcrm.business_time_between('2026-10-25', '2026-10-26', 'shifts') AS long;
-- a holiday in a week without end, and short hours
INSERT INTO regcrm.calendar_day (calendar, day, opens, closes) VALUES ('shifts', '2026-10-25', '02:30', '03:00'), ('shifts', '2026-03-29', '02:10', '02:50');
SELECT regcrm.business_time_between('2026-03-29', '2026-03-30', 'shifts') AS the_hour_skipped,
	   regcrm.business_time_between('2026-10-25', '2026-10-26', 'shifts') AS the_hour_that_comes_twice;
-- hours need not be whole minutes; a Monday
INSERT INTO regcrm.calendar_week (calendar, from_date, weekday, opens, closes) VALUES ('shifts', '2027-01-01', 1, '09:00:30.25', '10:00');
SELECT regcrm.business_time_between('2027-01-04', '2027-01-05', 'shifts') AS worked,
	   regcrm.add_business_time('2027-01-04 09:00', '1 second', 'shifts') AS at,
	   regcrm.add_business_time('2027-01-04 10:00', '-1 second', 'shifts') AS back;
SET TimeZone = 'Europe/Moscow';

-- Russia's production calendar, counted by hand from the decrees and the Labour Code:
-- days off and short ones of each year, and its days of work (five-day week)
SELECT extract(year FROM day) AS year, count(*) FILTER (WHERE opens IS NULL) AS off, count(*) FILTER (WHERE closes = '17:00') AS short,
	   count(*) FILTER (WHERE extract(isodow FROM day) > 5) AS worked_saturdays, count(*) FILTER (WHERE source IS NULL) AS without_source
FROM regcrm.calendar_day WHERE calendar = 'ru-5x2' GROUP BY 1 ORDER BY 1;
SELECT y AS year, regcrm.business_time_between(make_timestamptz(y, 1, 1, 0, 0, 0), make_timestamptz(y + 1, 1, 1, 0, 0, 0), 'ru-5x2') AS worked,
	   (SELECT count(*) FROM generate_series(make_date(y, 1, 1), make_date(y, 12, 31), '1 day') d
		WHERE regcrm.business_time_between(d, d + interval '1 day', 'ru-5x2') > '0') AS days
FROM generate_series(2024, 2027) y;
SELECT DISTINCT source FROM regcrm.calendar_day WHERE calendar = 'ru-5x2' ORDER BY 1;
SELECT day, note, source FROM regcrm.calendar_day WHERE calendar = 'ru-5x2' AND day BETWEEN '2026-05-01' AND '2026-06-30' ORDER BY day;

-- A calendar that an account keeps has working time; it is looked at on commit
INSERT INTO regcrm.calendar (name) VALUES ('idle');
UPDATE regcrm.account SET calendar = 'idle' WHERE id = 1;	-- fails
\echo :SQLSTATE
UPDATE regcrm.account SET calendar = 'daily-9-20' WHERE id = 1;
DELETE FROM regcrm.calendar_week WHERE calendar = 'daily-9-20';	-- fails
UPDATE regcrm.calendar_week SET calendar = 'idle' WHERE calendar = 'daily-9-20';	-- fails
BEGIN;
DELETE FROM regcrm.calendar_week WHERE calendar = 'daily-9-20';
INSERT INTO regcrm.calendar_day (calendar, day, opens, closes) VALUES ('daily-9-20', '2030-01-01', '10:00', '11:00');
COMMIT;	-- fails: one day is not for ever
BEGIN;
DELETE FROM regcrm.calendar_week WHERE calendar = 'daily-9-20';
INSERT INTO regcrm.calendar_week (calendar, weekday, opens, closes) SELECT 'daily-9-20', d, '09:00', '20:00' FROM generate_series(1, 7) d;
COMMIT;
DELETE FROM regcrm.calendar WHERE name = 'idle';	-- nobody keeps it
INSERT INTO regcrm.calendar_week (calendar, from_date, weekday, opens, closes) VALUES ('daily-9-20', 'infinity', 1, '09:00', '10:00');	-- fails

-- change_hours(): from a date on; days past only where that is said
SELECT regcrm.change_hours('daily-9-20', '2055-03-01', '{6,7}', '{10:00-13:00,14:00-18:30:15}');
SELECT regcrm.change_hours('daily-9-20', '2055-04-01', '{7}', '{}');
SELECT from_date, weekday, opens, closes FROM regcrm.calendar_week WHERE calendar = 'daily-9-20' AND weekday IN (5, 6, 7) ORDER BY 1, 2, 3;
SELECT regcrm.business_time_between('2055-02-27', '2055-03-01', 'daily-9-20', 'Europe/Moscow') AS weekend_before,
	   regcrm.business_time_between('2055-03-06', '2055-03-08', 'daily-9-20', 'Europe/Moscow') AS weekend_then,
	   regcrm.business_time_between('2055-04-03', '2055-04-05', 'daily-9-20', 'Europe/Moscow') AS weekend_later;
SELECT regcrm.change_hours('daily-9-20', '2020-01-01', '{1}', '{}');	-- fails: past
\echo :SQLSTATE
SELECT regcrm.change_hours('daily-9-20', '2020-01-01', '{1}', '{}', past => true);
SELECT regcrm.business_time_between('2019-12-30', '2019-12-31', 'daily-9-20', 'Europe/Moscow') AS monday_before,
	   regcrm.business_time_between('2020-01-06', '2020-01-07', 'daily-9-20', 'Europe/Moscow') AS monday_then;
-- all fail
SELECT regcrm.change_hours('daily-9-20', '2055-05-01', '{8}', '{}');
SELECT regcrm.change_hours('daily-9-20', '2055-05-01', '{1}', '{9-18}');
SELECT regcrm.change_hours('daily-9-20', '2055-05-01', '{1}', '{18:00-09:00}');
SELECT regcrm.change_hours('daily-9-20', '2055-05-01', '{1}', '{09:00-12:00,11:00-18:00}');
SELECT regcrm.change_hours('daily-9-20', '2055-05-01', '{1,2,3,4,5,6,7}', '{}');
SELECT regcrm.change_hours('weekly', '2055-05-01', '{1}', '{}');
SELECT regcrm.change_hours('daily-9-20', '2055-05-01', '{1}', NULL);

-- Deadlines that run follow a change of hours to come; days past change on demand only.
-- ONC-4 gives 27 hours of the calendar, which is never over today.
DELETE FROM regcrm.calendar_week WHERE calendar = 'daily-9-20' AND from_date > '-infinity';
DELETE FROM regcrm.account WHERE id = 2;
UPDATE regcrm.account SET time_zone = 'Europe/Moscow' WHERE id = 1;
SET regcrm.mode = 'off';
INSERT INTO regcrm.deal (account_id, id, stage, created_at) VALUES (1, 1, 'contract', now() - interval '1 hour'), (1, 2, 'contract', now() - interval '20 days');
RESET regcrm.mode;
SELECT FROM regcrm.rejudge();
CREATE TEMP VIEW plan AS
	SELECT d.deal_id, d.state, d.due_at,
		d.due_at = regcrm.add_business_time(d.arose_at, '27 hours', 'daily-9-20', 'Europe/Moscow') AS as_the_calendar_says
	FROM regcrm.deadline d WHERE d.rule = 'ONC-4';
CREATE TEMP TABLE before AS SELECT * FROM plan;
SELECT deal_id, state, as_the_calendar_says FROM plan ORDER BY 1;
SELECT regcrm.flag_expired();
SELECT from_day = (now() AT TIME ZONE 'Europe/Moscow')::date AS from_today FROM regcrm.calendar_plan;
SELECT regcrm.change_hours('daily-9-20', (now() AT TIME ZONE 'Europe/Moscow')::date + 1, '{1,2,3,4,5,6,7}', '{10:00-12:00}');
SELECT regcrm.flag_expired();
SELECT p.deal_id, p.state, p.as_the_calendar_says, p.due_at > b.due_at AS moved FROM plan p JOIN before b USING (deal_id) ORDER BY 1;
SELECT deals, changed FROM regcrm.rejudge();	-- nothing is left to do
-- ten days that are past become free
INSERT INTO regcrm.calendar_day (calendar, day) SELECT 'daily-9-20', (now() AT TIME ZONE 'Europe/Moscow')::date - d FROM generate_series(10, 19) d;
SELECT regcrm.flag_expired();
SELECT p.deal_id, p.state, p.as_the_calendar_says, p.due_at <> b.due_at AS moved FROM plan p JOIN before b USING (deal_id) ORDER BY 1;
SELECT deals, changed FROM regcrm.rejudge();
SELECT p.deal_id, p.state, p.as_the_calendar_says, p.due_at <> b.due_at AS moved FROM plan p JOIN before b USING (deal_id) ORDER BY 1;
-- another calendar, another zone
SELECT FROM regcrm.change_hours('ru-5x2', '2020-01-01', '{6}', '{10:00-14:00}', past => true);
UPDATE regcrm.account SET calendar = 'ru-5x2', time_zone = 'Asia/Omsk' WHERE id = 1;
SELECT regcrm.flag_expired();
SELECT deal_id, due_at = regcrm.add_business_time(arose_at, '27 hours', 'ru-5x2', 'Asia/Omsk') AS as_the_calendar_says
	FROM regcrm.deadline WHERE rule = 'ONC-4' AND deal_id = 1;
DELETE FROM regcrm.calendar_week WHERE calendar = 'ru-5x2' AND from_date > '-infinity';

-- Against AT TIME ZONE, second by second where it matters: random moments in zones with all sorts of rules
CREATE TEMP TABLE probe AS
SELECT z.zone, timestamptz '2023-01-01' + random() * interval '3 years' AS at, random() * interval '20 hours' AS d
FROM unnest('{Europe/Berlin,America/New_York,Australia/Lord_Howe,America/Santiago,Asia/Gaza,Africa/Casablanca,Pacific/Apia,Asia/Kathmandu}'::text[]) z(zone),
	 generate_series(1, 8);
SELECT count(*) AS wrong
FROM probe p, LATERAL (SELECT regcrm.add_business_time(p.at, p.d, 'ru-5x2', p.zone) AS until) u
WHERE regcrm.business_time_between(p.at, u.until, 'ru-5x2', p.zone) <> p.d
   -- minute by minute, the whole minutes between
   OR (SELECT count(*) FROM generate_series(date_trunc('minute', p.at) + interval '1 minute', u.until - interval '1 minute', interval '1 minute') m(m),
			LATERAL (SELECT m.m AT TIME ZONE p.zone AS local) l
			WHERE CASE WHEN EXISTS (SELECT FROM regcrm.calendar_day c WHERE c.calendar = 'ru-5x2' AND c.day = l.local::date)
				THEN EXISTS (SELECT FROM regcrm.calendar_day c WHERE c.calendar = 'ru-5x2' AND c.day = l.local::date AND l.local::time >= c.opens AND l.local::time < c.closes)
				ELSE EXISTS (SELECT FROM regcrm.calendar_week w WHERE w.calendar = 'ru-5x2' AND w.weekday = extract(isodow FROM l.local) AND l.local::time >= w.opens AND l.local::time < w.closes) END)
	  NOT BETWEEN extract(epoch FROM p.d) / 60 - 3 AND extract(epoch FROM p.d) / 60 + 1;

-- For a role that may read no table of ours
CREATE ROLE regcrm_calendar_nobody;
GRANT USAGE ON SCHEMA regcrm TO regcrm_calendar_nobody;
GRANT EXECUTE ON FUNCTION regcrm.add_business_time(timestamptz, interval, text, text) TO regcrm_calendar_nobody;
REVOKE ALL ON regcrm.calendar, regcrm.calendar_week, regcrm.calendar_day, regcrm.account FROM PUBLIC;
SET ROLE regcrm_calendar_nobody;
SELECT regcrm.add_business_time('2026-05-08 16:30', '1 hour', 'ru-5x2');
RESET ROLE;
REVOKE USAGE ON SCHEMA regcrm FROM regcrm_calendar_nobody;
REVOKE ALL ON FUNCTION regcrm.add_business_time(timestamptz, interval, text, text) FROM regcrm_calendar_nobody;
DROP ROLE regcrm_calendar_nobody;

DROP EXTENSION regcrm CASCADE;
DROP SCHEMA regcrm CASCADE;
