
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
