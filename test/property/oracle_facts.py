"""Reads facts and rules out of regcrm's tables, for the oracle.  Sessions are in UTC."""
import collections

from oracle import Account, Deal, Event, MOMENTS, Rule, Task
from oracle_time import Calendar

FIELDS = (*MOMENTS, "reason", "pause_reason", "skip_task_check")


def us(expression):
    """SQL: a moment as microseconds, null for the infinities."""
    return f"case when isfinite({expression}) then (extract(epoch from {expression}) * 1000000)::bigint end"


def length(expression):
    return f"(extract(epoch from {expression}) * 1000000)::bigint"


def range_of(column):
    return f"{us(f'lower({column})')}, lower_inc({column}), {us(f'upper({column})')}, upper_inc({column})"


def rows(cur, query, *arguments):
    cur.execute(query, arguments)
    return cur.fetchall()


def read_account(cur, account):
    zone, calendar, known_from, known_until, regulation = rows(cur, f"""
        select time_zone, calendar, {us('known_from')}, {us('known_until')}, regulation
        from regcrm.account where id = %s""", account)[0]
    redial, undo, talk = rows(cur, f"""
        select {length('redial_window')}, {length('undo_window')}, {length('min_talk')}
        from regcrm.regulation where code = %s""", regulation)[0]
    feeds = dict(rows(cur, "select feed, case when isfinite(since) then (extract(epoch from since) * 1000000)::bigint "
                      "else -(1::bigint << 62) end from regcrm.feed where account_id = %s", account))
    outsiders = {i for i, in rows(cur, "select id from regcrm.manager where account_id = %s and not in_scope", account)}
    rules = []
    for row in rows(cur, f"""
            select code, stage::text, form, event, nth, expect, unless,
                   coalesce(scope, case when form in ('enter', 'leave') then 'deal' else 'visit' end),
                   {length('within')}, by, {length('warn')}, clock, {range_of('valid')}
            from regcrm.rule where regulation = %s and enabled order by code, valid""", regulation):
        rules.append(Rule(*row[:12], row[12:16]))
    transitions = collections.defaultdict(list)
    for a, b, comment, *valid in rows(cur, f"""
            select from_stage::text, to_stage::text, comment_required, {range_of('valid')}
            from regcrm.transition where regulation = %s""", regulation):
        transitions[a, b].append((tuple(valid), comment))
    scenarios = collections.defaultdict(list)
    for code, outcome, *valid in rows(cur, f"""
            select code, outcome, {range_of('valid')} from regcrm.scenario where regulation = %s order by code, valid""", regulation):
        scenarios[code].append((tuple(valid), outcome))
    return Account(zone, read_calendar(cur, calendar, zone) if calendar else None, known_from, known_until,
                   feeds or None, outsiders, rules, transitions, scenarios, redial, undo, talk)


def read_calendar(cur, name, zone):
    own, = rows(cur, "select time_zone from regcrm.calendar where name = %s", name)[0]
    weeks = rows(cur, """
        select case when isfinite(from_date) then from_date end, weekday,
               extract(epoch from opens)::int, extract(epoch from closes)::int
        from regcrm.calendar_week where calendar = %s""", name)
    days = collections.defaultdict(list)
    for day, opens, closes in rows(cur, """
            select day, extract(epoch from opens)::int, extract(epoch from closes)::int
            from regcrm.calendar_day where calendar = %s""", name):
        hours = days[day]
        if opens is not None:
            hours.append((opens, closes))
    return Calendar(own or zone, weeks, dict(days))


def read_deals(cur, account, ids=None):
    only = "account_id = %s" if ids is None else "account_id = %s and {} = any(%s)"
    more = [account] if ids is None else [account, list(ids)]
    events, tasks = collections.defaultdict(list), collections.defaultdict(list)
    for deal, *row in rows(cur, f"""
            select deal_id, id, {us('at')}, kind, by_bot, actor_id, from_stage::text, to_stage::text, answered,
                   {length('duration')}, scenario, field, value, value_before, source_id
            from regcrm.event where {only.format('deal_id')} and deal_id is not null""", *more):
        events[deal].append(Event(*row))
    for deal, *row in rows(cur, f"""
            select deal_id, id, kind, manager_id, {us('created_at')}, by_bot, {us('due_at')},
                   {us('completed_at')}, {us('deleted_at')}
            from regcrm.task where {only.format('deal_id')} and deal_id is not null""", *more):
        tasks[deal].append(Task(*row))
    deals = []
    for number, judged, created, deleted, stage, *held in rows(cur, f"""
            select id, in_regulation, {us('created_at')}, {us('deleted_at')}, stage::text, {', '.join(f'{f}::text' for f in FIELDS)}
            from regcrm.deal where {only.format('id')} order by id""", *more):
        fields = {f: v for f, v in zip(FIELDS, held) if v is not None}
        deals.append(Deal(number, judged, created, deleted, stage, fields, events[number], tasks[number]))
    return deals
