#!/usr/bin/python3
"""Effects: each row of the regulation's table, for SQL writers in mode enforce;
choose_scenario for each scenario from each stage; effects that feed each other.

Prints TAP.  Connects by the usual PG* variables to a database with regcrm.
"""
from story import (ACCOUNT, STAGES, Bases, Tap, attempt, breaches, comment, completing, connect, done, facts,
                   meeting_ahead, missed, move, paid, scenario, signed, sql, start, summary, talk, task, visit)

tap = Tap()
admin, writer = start()
bases = Bases(admin)


def ask(text, *args):
    cur = admin.cursor()
    cur.execute(text, args)
    rows = cur.fetchall() if cur.description else None
    admin.commit()
    return rows


def tasks(deal):
    """(kind, by_bot, open, minutes from creation to due) of tasks of this minute or open."""
    return ask("""select kind, by_bot, completed_at is null, (extract(epoch from due_at - created_at) / 60)::int from regcrm.task
                  where account_id = %s and deal_id = %s and (completed_at is null or completed_at > now() - interval '10 min')
                  order by created_at, kind, completed_at is null""", ACCOUNT, deal)


def open_tasks(deal):
    return [(k, b, m) for k, b, o, m in tasks(deal) if o and m < 1000]


def stage(deal):
    return ask("select stage::text from regcrm.deal where account_id = %s and id = %s", ACCOUNT, deal)[0][0]


def moves(deal):
    """Moves of this minute: (from, to, by_bot)."""
    return ask("""select from_stage::text, to_stage::text, by_bot from regcrm.event where account_id = %s and deal_id = %s and kind = 'stage'
                  and at > now() - interval '10 min' order by id""", ACCOUNT, deal)


def new_key():
    bases.last += 1
    return bases.last


def begins(with_task=False):
    deal = new_key()
    refused = attempt(writer, deal, [sql("insert into regcrm.deal (account_id, id, stage, manager_id, lead_date)"
                                         " values (%(a)s, %(d)s, 'new', 1, now()::date)")])
    assert refused is None, refused
    return deal


def did(name, refused):
    return tap.ok(refused is None, name + ": commits", refused)


# ---- enter new; enter in_work with no such task open ----

deal = begins()
tap.same(tasks(deal), [("process_request", True, True, 15)], "a new deal gets the task to process it, due in 15 minutes, from the robot")
tap.same(ask("select manager_id from regcrm.task where deal_id = %s", deal), [(1,)], "it is for who is responsible")
did("the deal is taken to work", attempt(writer, deal, [talk, scenario("in_work"), move("in_work")]))
tap.same(tasks(deal), [("process_request", True, True, 15)], "in_work the task stays open, and there is no second one")
deal = bases.make("new")
did("its task done, a deal is taken to work", attempt(writer, deal, [scenario("in_work"), done("process_request"), move("in_work")]))
tap.same(open_tasks(deal), [("process_request", True, 15)], "in_work it gets the task where none such is open")
deal = bases.make("lost")
did("a lost deal comes back to work", attempt(writer, deal, [visit, move("in_work")]))
tap.same(open_tasks(deal), [("process_request", True, 15)], "and gets its task")
deal = bases.make("lost")
did("a lost deal comes back as new", attempt(writer, deal, [visit, move("new")]))
tap.same(open_tasks(deal), [("process_request", True, 15)], "and gets its task")

# business time: 15 minutes of the account's calendar
ask("insert into regcrm.account (id, known_from, calendar) values (79, '2020-01-01', 'daily-9-20')")
cur = writer.cursor()
cur.execute("insert into regcrm.deal (account_id, id, stage) values (79, 1, 'new')")
writer.commit()
tap.same(ask("select due_at = regcrm.add_business_time(created_at, '15 min', 'daily-9-20', 'Europe/Moscow') from regcrm.task where account_id = 79"),
         [(True,)], "the task is due by the account's calendar")

# ---- scenario no_answer in new and in_work; enter no_answer ----

for here in ("new", "in_work"):
    deal = bases.make(here)
    did("«Недозвон» in %s" % here, attempt(writer, deal, [missed, scenario("no_answer")]))
    tap.same((stage(deal), moves(deal)), ("no_answer", [(here, "no_answer", True)]), "%s: the robot moves the deal, once" % here)
    tap.same(open_tasks(deal), [("callback", True, 120)], "%s: the next call is in two hours" % here)
    tap.same([k for k, b, o, m in tasks(deal) if not o], ["process_request"], "%s: the task to process it is done" % here)
    deal = bases.make(here)
    did("«Недозвон» with the move written out, in %s" % here, attempt(writer, deal, [missed, move("no_answer"), scenario("no_answer")]))
    tap.same((stage(deal), len(moves(deal)), len(open_tasks(deal))), ("no_answer", 1, 1), "%s: it is moved once and called once" % here)
    deal = bases.make(here)
    did("any other scenario in %s" % here, attempt(writer, deal, [scenario("deciding")]))
    tap.same(stage(deal), here, "%s: an event of another scenario moves nothing" % here)
deal = bases.make("new")
refused = attempt(writer, deal, [scenario("no_answer")])
tap.ok(refused is not None and refused.rules == ["MISS-3"], "«Недозвон» without a missed call: the move of the effect is judged too", refused)
tap.same(stage(deal), "new", "and all is as before")

# ---- in no_answer: first, second, third ----

deal = bases.make("no_answer")
ask("insert into regcrm.task (account_id, deal_id, kind, manager_id, due_at) values (%s, %s, 'other', 1, now() + interval '2 days')", ACCOUNT, deal)
for number in (1, 2):
    did("«Недозвон» number %d in no_answer" % number, attempt(writer, deal, [missed, scenario("no_answer")]))
    tap.same((stage(deal), moves(deal)), ("no_answer", []), "number %d: the deal stays" % number)
    tap.same(open_tasks(deal), [("callback", True, 120)], "number %d: the call before is done, the next one in two hours" % number)
    tap.same([k for k, b, o, m in tasks(deal) if o and m > 1000], ["other"], "number %d: other tasks stay open" % number)
did("«Недозвон» number 3", attempt(writer, deal, [missed, scenario("no_answer")]))
tap.same((stage(deal), moves(deal)), ("unqualified", [("no_answer", "unqualified", True)]), "number 3: the robot closes the deal")
tap.same([t for t in tasks(deal) if t[2]], [], "number 3: no task is open")
tap.ok(ask("select reason from regcrm.deal where account_id = %s and id = %s", ACCOUNT, deal)[0][0], "number 3: the reason is set")
tap.same(breaches(admin, deal), [], "and nothing is broken")
deal = bases.make("no_answer", misses=2, reason="не тот город")
did("«Недозвон» number 3 where a reason is there", attempt(writer, deal, [missed, scenario("no_answer")]))
tap.same(ask("select reason from regcrm.deal where account_id = %s and id = %s", ACCOUNT, deal), [("не тот город",)], "it is kept")
deal = bases.make("no_answer", misses=1)
did("two «Недозвон» in one statement", attempt(writer, deal, [missed, sql(
    "insert into regcrm.event (account_id, deal_id, kind, scenario) values (%(a)s, %(d)s, 'scenario', 'no_answer'), (%(a)s, %(d)s, 'scenario', 'no_answer')")]))
tap.same((stage(deal), moves(deal)), ("unqualified", [("no_answer", "unqualified", True)]), "the second and the third: closed once")

# from the first call to the end, in six transactions
deal = begins()
for number, there in enumerate(["no_answer", "no_answer", "no_answer", "unqualified"], 1):
    did("a whole story, «Недозвон» %d of four" % number, attempt(writer, deal, [missed, sql("select regcrm.choose_scenario(%(a)s, %(d)s, 'no_answer')")]))
    tap.same(stage(deal), there, "then the deal is in " + there)

# ---- leaving new and in_work, but not to in_work ----

for here, there in [("new", "deciding"), ("in_work", "meeting"), ("new", "messaging"), ("in_work", "lost")]:
    deal = bases.make(here)
    acts = [a for a in completing(here, there) if a.text != done().text]
    did("%s to %s" % (here, there), attempt(writer, deal, acts + [move(there)]))
    tap.same([o for k, b, o, m in tasks(deal) if k == "process_request"], [False], "%s to %s: the task to process it is done" % (here, there))

# ---- enter won ----

for here in ("meeting", "contract"):
    deal = bases.make(here)
    did("%s to won, all tasks open" % here, attempt(writer, deal, [signed, paid, task(), move("won")]))
    tap.same(([t for t in tasks(deal) if t[2]], ask("select skip_task_check from regcrm.deal where account_id = %s and id = %s", ACCOUNT, deal)),
             ([], [(True,)]), "%s to won: tasks are done, the check of tasks is off" % here)

# ---- none of them acts on a deal that has been in messaging, but those of won ----

deal = bases.make("in_work", chat=True)
before = tasks(deal)
did("a scenario after messaging, in work", attempt(writer, deal, [comment, task(), move("deciding")]))
tap.same([t for t in tasks(deal) if t[0] == "process_request"], [t for t in before if t[0] == "process_request"], "nothing was completed by a robot")
deal = bases.make("lost", chat=True)
did("a deal that was in messaging comes back as new", attempt(writer, deal, [visit, task(), move("new")]))
tap.same([t[1] for t in tasks(deal) if t[2]], [False], "the robot adds no task")
deal = bases.make("meeting", chat=True)
did("meeting to won after messaging", attempt(writer, deal, [signed, paid, task(), move("won")]))
tap.same([t for t in tasks(deal) if t[2]], [], "tasks are done all the same")

# ---- in mode record nothing happens by itself ----

deal = new_key()
ask("insert into regcrm.deal (account_id, id, stage) values (%s, %s, 'new')", ACCOUNT, deal)
tap.same(tasks(deal), [], "mode record adds no task")

# ---- many deals at once ----

deals = [bases.make("new") for _ in range(40)]
did("forty deals, one statement", attempt(writer, 0, [
    sql("insert into regcrm.event (account_id, deal_id, kind, answered) select %(a)s, d, 'call_out', false from unnest(%(p0)s) d", deals),
    sql("insert into regcrm.event (account_id, deal_id, kind, scenario) select %(a)s, d, 'scenario', 'no_answer' from unnest(%(p0)s) d", deals)]))
tap.same((sorted({stage(d) for d in deals}), {len(moves(d)) for d in deals}, {len(open_tasks(d)) for d in deals}), (["no_answer"], {1}, {1}),
         "each is moved once and called once")
stories = {str(summary(admin, d)) for d in deals}
tap.same(len(stories), 1, "and all are alike")

# ---- choose_scenario ----

fields = ('{"meeting_at": "2037-01-31 12:00", "return_on": "2037-01-31", "reason": "дорого"}')
cur = admin.cursor()
cur.execute("select code, name, to_stage::text from regcrm.scenario where regulation = 'idrive' and valid @> now() order by code")
scenarios = cur.fetchall()
cur.execute("select from_stage::text, to_stage::text from regcrm.transition where regulation = 'idrive' and valid @> now()")
legal = set(cur.fetchall())
cur.execute("select distinct stage::text, substring(event from 10) from regcrm.effect where regulation = 'idrive' and event like 'scenario:%'")
by_effect = set(cur.fetchall())
admin.commit()
tap.same(sorted(s[0] for s in scenarios), sorted({t for f, t in legal if f in ("new", "in_work", "no_answer")}),
         "one scenario for each stage that new, in_work and no_answer may be left for")
for here in STAGES:
    is_open = {code for code, name, there in scenarios if (here, there) in legal or (here, code) in by_effect}
    for code, name, there in scenarios:
        deal = bases.make(here)
        before = facts(admin, deal)
        by = code if len(here) % 2 else name
        choose = sql("select regcrm.choose_scenario(%(a)s, %(d)s, %(p0)s, %(p1)s, 'со слов клиента')", by, fields)
        needed = [a for a in completing(here, there) if "'scenario'" not in a.text and "scenario" not in a.text.split("(")[1]
                  and a.text.split()[0] != "update"] if there != here else [missed]
        extra = [a for a in completing(here, there) if a.text == done().text] if there != here else []
        told = "%s in %s" % (code, here)
        if code in is_open and here != "messaging":
            refused = attempt(writer, deal, needed + extra + [choose])
            tap.ok(refused is None, told + " is open: works", refused)
            tap.same(stage(deal), there if here != "no_answer" or code != "no_answer" else "no_answer", told + ": the deal is where it leads")
            chosen = ask("select count(*) filter (where kind = 'scenario' and scenario = %s), count(*) filter (where body = 'со слов клиента')"
                         " from regcrm.event where account_id = %s and deal_id = %s and at > now() - interval '1 hour'", code, ACCOUNT, deal)
            tap.same(chosen, [(1, 1)], told + ": it is recorded, with the comment")
        elif code in is_open:
            refused = attempt(writer, deal, needed + extra + [choose])
            tap.ok(refused is not None and "CHAT-10" in refused.rules, told + ": no scenario during a correspondence", refused)
        else:
            refused = attempt(writer, deal, needed + extra + [choose])
            tap.ok(refused is not None and refused.place == "statement" and refused.sqlstate == "23514", told + " is not open: refused", refused)
            text = (refused.hint + refused.detail) if refused else ""
            listed = {c for c, n, t in scenarios if c + " " in text + " " or c + "," in text or c + "." in text or n in text}
            if is_open:
                tap.same(listed, is_open, told + ": those that are open are listed", refused)
            tap.ok(facts(admin, deal) == before, told + ": nothing is changed")

# ---- effects that feed each other (hazards G15) ----

ask("insert into regcrm.effect (regulation, code, position, stage, event, what, to_stage) values"
    " ('idrive', 'PING', 900, 'deciding', 'enter', 'move', 'meeting'), ('idrive', 'PONG', 901, 'meeting', 'enter', 'move', 'deciding')")
other = connect(role="regcrm_writer")
deal = bases.make("new")
before = facts(admin, deal)
refused = attempt(other, deal, [scenario("deciding"), comment, task(), meeting_ahead, move("deciding")])
tap.ok(refused is not None and refused.sqlstate[:2] not in ("XX", "23") and "PING" in refused.message + refused.detail + refused.hint
       and "PONG" in refused.message + refused.detail + refused.hint, "effects that feed each other: one clear error that names them", refused)
tap.ok(facts(admin, deal) == before, "and nothing is changed")
did("the session goes on", attempt(other, deal, [comment]))
ask("delete from regcrm.effect where code in ('PING', 'PONG')")
did("and without those effects the deal moves", attempt(other, deal, [scenario("deciding"), comment, task(), move("deciding")]))

tap.done()
