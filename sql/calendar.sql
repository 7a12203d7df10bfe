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
INSERT INTO regcrm.calendar_week (calendar, from_date, weekday, opens, closes) VALUES ('shifts', '2027-01-01', 1, '09:00:30', '10:00');
SELECT regcrm.add_business_time('2026-05-08', '1 hour', 'shifts');	-- fails
DELETE FROM regcrm.calendar_week WHERE opens = '09:00:30';
SET TimeZone = 'Europe/Moscow';

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
REVOKE ALL ON regcrm.calendar, regcrm.calendar_week, regcrm.calendar_day, regcrm.account FROM PUBLIC;
SET ROLE regcrm_calendar_nobody;
SELECT regcrm.add_business_time('2026-05-08 16:30', '1 hour', 'ru-5x2');
RESET ROLE;
REVOKE USAGE ON SCHEMA regcrm FROM regcrm_calendar_nobody;
DROP ROLE regcrm_calendar_nobody;

DROP EXTENSION regcrm CASCADE;
DROP SCHEMA regcrm CASCADE;
