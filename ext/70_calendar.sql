
-- ---------------------------------------------------------------------------
-- business time
-- ---------------------------------------------------------------------------

CREATE FUNCTION regcrm.add_business_time(at timestamptz, duration interval, calendar text, time_zone text DEFAULT NULL)
	RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'regcrm_add_business_time'
	LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION regcrm.add_business_time(timestamptz, interval, text, text) IS
	'The earliest moment at which a duration of working time has passed since a moment; a negative duration goes back. A day is 24 hours of work; months are refused (22023). calendar null = every hour counts. time_zone is for a calendar that names none of its own: null = that of the session''s account, else Europe/Moscow. An infinite moment stays what it is. Errors: 42704 for a calendar that does not exist, 22008 outside of the years 2000 to 2060.';

CREATE FUNCTION regcrm.business_time_between(since timestamptz, until timestamptz, calendar text, time_zone text DEFAULT NULL)
	RETURNS interval
	AS 'MODULE_PATHNAME', 'regcrm_business_time_between'
	LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION regcrm.business_time_between(timestamptz, timestamptz, text, text) IS
	'Working time between two moments, in hours and never in days; negative where the second lies before the first. calendar and time_zone as for add_business_time: business_time_between(t, add_business_time(t, d, c), c) = d. Errors: 22008 for an infinite moment or outside of the years 2000 to 2060, 42704 for a calendar that does not exist.';

CREATE FUNCTION regcrm.calendar_hours(calendar text, time_zone text, from_day date) RETURNS text
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	-- by numbers and not by text forms, which depend on the session
	RETURN md5(concat_ws('|',
		COALESCE((SELECT c.time_zone FROM regcrm.calendar c WHERE c.name = $1), $2),
		$1 IS NULL,
		(SELECT string_agg(concat_ws(' ', greatest(w.from_date, $3) - date '2000-01-01', w.weekday, extract(epoch FROM w.opens), extract(epoch FROM w.closes)),
				',' ORDER BY w.from_date, w.weekday, w.opens)
			FROM regcrm.calendar_week w
			WHERE w.calendar = $1 AND w.from_date >= (
				SELECT COALESCE(max(v.from_date), '-infinity') FROM regcrm.calendar_week v WHERE v.calendar = $1 AND v.from_date <= $3)),
		'/',
		(SELECT string_agg(concat_ws(' ', d.day - date '2000-01-01', extract(epoch FROM d.opens), extract(epoch FROM d.closes)),
				',' ORDER BY d.day, d.opens)
			FROM regcrm.calendar_day d
			WHERE d.calendar = $1 AND d.day >= $3)));
END
$$;
COMMENT ON FUNCTION regcrm.calendar_hours(text, text, date) IS
	'For the clock: a digest of the working hours from a day on, to see whether they have changed. Arguments: calendar (null = every hour), zone where the calendar names none, first day.';

CREATE FUNCTION regcrm.change_hours(calendar text, from_date date, weekdays integer[], hours text[], past boolean DEFAULT false) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
DECLARE
	today date;
	bad text;
BEGIN
	PERFORM regcrm.need_tables();
	IF $1 IS NULL OR $2 IS NULL OR $3 IS NULL OR $4 IS NULL THEN
		RAISE EXCEPTION 'calendar, from_date, weekdays and hours must be given'
			USING ERRCODE = 'null_value_not_allowed', HINT = 'Hours {} make the weekdays free.';
	END IF;
	SELECT (now() AT TIME ZONE COALESCE(c.time_zone, 'Europe/Moscow'))::date INTO today FROM regcrm.calendar c WHERE c.name = $1;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'calendar "%" does not exist', $1
			USING ERRCODE = 'undefined_object',
				HINT = 'Known calendars are ' || COALESCE((SELECT string_agg(quote_ident(c.name), ', ' ORDER BY c.name) FROM regcrm.calendar c), 'none') || '.';
	END IF;
	IF $2 < today AND $5 IS NOT TRUE THEN
		RAISE EXCEPTION 'hours of calendar "%" may not change from % on, which is past', $1, to_char($2, 'YYYY-MM-DD')
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Give today or a day to come; or past => true, and then run regcrm.rejudge().';
	END IF;
	SELECT w::text INTO bad FROM unnest($3) w WHERE w IS NULL OR w NOT BETWEEN 1 AND 7 LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'weekday % is none', COALESCE(bad, 'null')
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Weekdays are 1 (Monday) to 7 (Sunday).';
	END IF;
	SELECT COALESCE(h, 'null') INTO bad FROM unnest($4) h
		WHERE h IS NULL OR h !~ '^\s*\d{1,2}:\d{2}(:\d{2}(\.\d{1,6})?)?\s*-\s*\d{1,2}:\d{2}(:\d{2}(\.\d{1,6})?)?\s*$' LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'invalid hours: "%"', bad
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Give them as {09:00-13:00,14:00-18:00}; a day ends at 24:00.';
	END IF;

	-- the week that is in force then goes on, but for these days
	INSERT INTO regcrm.calendar_week (calendar, from_date, weekday, opens, closes)
		SELECT $1, $2, w.weekday, w.opens, w.closes
		FROM regcrm.calendar_week w
		WHERE w.calendar = $1 AND w.from_date = (
				SELECT max(v.from_date) FROM regcrm.calendar_week v WHERE v.calendar = $1 AND v.from_date <= $2)
			AND w.from_date < $2;
	DELETE FROM regcrm.calendar_week w WHERE w.calendar = $1 AND w.from_date = $2 AND w.weekday = ANY ($3);
	INSERT INTO regcrm.calendar_week (calendar, from_date, weekday, opens, closes)
		SELECT DISTINCT $1, $2, d, split_part(h, '-', 1)::time, split_part(h, '-', 2)::time
		FROM unnest($3) d, unnest($4) h;

	IF NOT EXISTS (SELECT FROM regcrm.calendar_week w WHERE w.calendar = $1 AND w.from_date = $2) THEN
		RAISE EXCEPTION 'no day of the week would be worked in calendar "%" from % on', $1, to_char($2, 'YYYY-MM-DD')
			USING ERRCODE = 'check_violation',
				HINT = 'A time in which nobody works is days without hours in regcrm.calendar_day.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION regcrm.change_hours(text, date, integer[], text[], boolean) FROM PUBLIC;
COMMENT ON FUNCTION regcrm.change_hours(text, date, integer[], text[], boolean) IS
	'Changes working hours from a date on: the week in force then goes on with new hours on some weekdays. Arguments: calendar; first day; weekdays (1 = Monday … 7 = Sunday); hours, as {09:00-13:00,14:00-18:00}, {} = free; past = whether the first day may be past (then run rejudge()). Deadlines that run are planned anew by the clock or flag_expired(). Errors: 42704 for a calendar that does not exist, 22023 for days past and what can''t be understood, 23514 for a week without work.';
