"""Breaches of the first stages: «Новые заявки (лиды)» and «Взято в работу»."""

import school
from catalogue import breach, edge
from deal import BOT, Deal
from habits import appear, first_touch, go, live, reach, request_task, settle
from worktime import HOUR, MINUTE, add_work

QUARTER = 15 * MINUTE


def live_from_talk(d: Deal) -> None:
    d.pause(20, 300)
    go(d, d.rng.choice(("meeting", "deciding", "in_work", "contract")))
    live(d)


# ------------------------------------------------------------------------------------ NEW

@edge("NEW-1")
def first_contact_in_a_quarter(d: Deal, late: int) -> None:
    """NEW-1: first contact within 15 working minutes."""
    due = add_work(d.born, QUARTER)
    d.at(due + late)
    d.call_out(d.rng.random() < .5, on_contact=False)
    d.edge(late, "NEW-1", due)
    if d.last_call_missed:
        d.work(10, 600)
        go(d, "no_answer")
    live(d)


@edge("NEW-1", hours=(20.5, 23.0), prelude=False)
def night_lead_touched_in_the_morning(d: Deal, late: int) -> None:
    """NEW-1: a night lead has until 09:15; a message by hand is a touch."""
    due = add_work(d.born, QUARTER)
    d.create(channel="chat")
    d.message_in()
    request_task(d)
    d.at(due + late)
    d.message_out()
    d.edge(late, "NEW-1", due)
    d.work(60, 900)
    go(d, "messaging")
    live(d)


@edge("NEW-1", prelude=False)
def junk_closed_untouched(d: Deal, late: int) -> None:
    """NEW-1: an obvious non-lead closed as unqualified within 15 minutes needs no touch."""
    due = add_work(d.born, QUARTER)
    d.create(channel="chat")
    d.message_in()
    request_task(d)
    d.pause(60, 400)
    go(d, "unqualified", at=due + late)
    d.edge(late, "NEW-1", due)


@breach("NEW-1", copies=6, weight=6, hours=None)
def slow_first_contact(d: Deal) -> None:
    """NEW-1: the lead waits for hours."""
    d.broken("NEW-1", add_work(d.born, QUARTER))
    d.work(30 * MINUTE, 4 * HOUR)
    d.call_out(True)
    d.pause(30, 300)
    go(d, d.rng.choice(("meeting", "deciding", "in_work")))
    live(d)


@breach("NEW-1", copies=4, weight=2)
def passed_on_untouched(d: Deal) -> None:
    """NEW-1: the lead is passed on untouched; the breach is that of the one who then has it."""
    d.pause(60, 600)
    d.hand_over(d.rng.choice([user for user in school.MANAGERS if user != d.manager]))
    d.broken("NEW-1", add_work(d.born, QUARTER))
    d.work(20 * MINUTE, 2 * HOUR)
    d.call_out(True)
    live_from_talk(d)


@edge("NEW-2")
def scenario_with_the_move(d: Deal, late: int) -> None:
    """NEW-2: a lead is left with a scenario, at the latest a minute after the move."""
    reach(d, "deciding", skip={"scenario"})
    d.scenario("deciding", at=d.entered + 60 + late)
    d.edge(late, "NEW-2", d.entered + 60)
    d.at(max(d.t, d.entered + 90))
    live(d)


@breach("NEW-2", weight=3)
def no_scenario(d: Deal) -> None:
    """NEW-2: moved on by hand, no scenario chosen."""
    reach(d, d.rng.choice(("deciding", "meeting", "contract", "messaging")), skip={"scenario"}, stay=True)
    d.broken("NEW-2", d.entered + 60)
    settle(d)
    live(d)


@breach("NEW-2M")
def second_scenario(d: Deal) -> None:
    """NEW-2M: one scenario is to be chosen, not two."""
    first_touch(d, True)
    d.pause(20, 90)
    d.scenario("deciding")
    d.pause(20, 200)
    d.broken("NEW-2M", d.scenario("meeting"))
    go(d, "meeting", skip={"scenario"})
    live(d)


@breach("NEW-3", weight=.5)
def stage_nobody_knows(d: Deal) -> None:
    """NEW-3: the deal is dragged into a status that is none of the regulation's stages."""
    reach(d, "in_work")
    d.work(300, HOUR)
    d.comment()
    d.scenario("deciding")
    d.pause(5, 30)
    d.broken("NEW-3", d.move_unmapped())
    if d.rng.random() < .7:
        d.work(2 * HOUR, 8 * HOUR)
        go(d, "deciding")
        live(d)


@edge("NEW-4")
def task_closed_too_early(d: Deal, late: int) -> None:
    """NEW-4: no lead without a task for more than 15 working minutes; here it leaves just then."""
    first_touch(d, True)
    d.pause(20, 90)
    closed = d.done(d.open_task("process_request"))
    d.pause(60, 300)
    go(d, "meeting", at=add_work(closed, QUARTER) + late)
    d.edge(late, "NEW-4", add_work(closed, QUARTER))
    live(d)


@breach("NEW-4", "NEW-12", prelude=False)
def bot_forgot_the_task(d: Deal) -> None:
    """NEW-12, NEW-4: the bot sets no «Обработать заявку», and nobody sets a task at all."""
    d.create()
    d.broken("NEW-12", d.born + 300)
    d.broken("NEW-4", add_work(d.born, QUARTER))
    first_touch(d, True)
    d.work(20 * MINUTE, HOUR)
    go(d, "meeting")
    live(d)


@edge("NEW-12", prelude=False)
def bot_task_in_five_minutes(d: Deal, late: int) -> None:
    """NEW-12: «Обработать заявку» is there five minutes after the lead."""
    d.create()
    d.task("process_request", add_work(d.born, 20 * MINUTE), BOT, at=d.born + 300 + late)
    d.edge(late, "NEW-12", d.born + 300)
    d.at(d.born + 310)
    first_touch(d, True)
    live_from_talk(d)


@breach("NEW-12", prelude=False)
def bot_asleep_manager_quick(d: Deal) -> None:
    """NEW-12: no task from the bot, but the deal is gone before the lack of a task counts."""
    d.create()
    d.broken("NEW-12", d.born + 300)
    d.pause(60, 200)
    d.call_out(True, seconds=100)
    d.at(d.born + 420)
    go(d, "deciding")
    live(d)


@edge("NEW-5")
def comment_for_deferred(d: Deal, late: int) -> None:
    """NEW-5: into «Отложенный спрос» with a comment, at the latest a minute after the move."""
    reach(d, "deferred", skip={"comment"}, stay=True)
    d.comment(at=d.entered + 60 + late)
    d.edge(late, "NEW-5", d.entered + 60)
    settle(d)
    live(d)


@breach("NEW-5")
def no_comment_for_deferred(d: Deal) -> None:
    """NEW-5: into «Отложенный спрос» without a word."""
    reach(d, "deferred", skip={"comment"})
    d.broken("NEW-5", d.entered + 60)
    d.at(max(d.t, d.entered + 70))
    live(d)


@edge("NEW-7")
def quarter_hour_call(d: Deal, late: int) -> None:
    """NEW-7: a call of 15 minutes is a breach; one of 14:59 only a long one (NEW-7W)."""
    d.work(60, 400)
    call = d.call_out(True, seconds=899 + late)
    if late:
        d.broken("NEW-7", call)
    else:
        d.kept("NEW-7", call, call)
        d.broken("NEW-7W", call)
    live_from_talk(d)


@edge("NEW-7W")
def ten_minute_call(d: Deal, late: int) -> None:
    """NEW-7W: a call of ten minutes is told, one of 9:59 is not."""
    d.work(60, 400)
    call = d.call_out(True, seconds=599 + late)
    d.edge(late, "NEW-7W", call)
    live_from_talk(d)


@edge("NEW-8", prelude=False)
def lead_date_with_the_move(d: Deal, late: int) -> None:
    """NEW-8: «Дата создания лида» is filled, at the latest a minute after the move."""
    appear(d)
    reach(d, "deciding", skip={"date"}, stay=True)
    d.set("lead_date", d.born, at=d.entered + 60 + late)
    d.edge(late, "NEW-8", d.entered + 60)
    settle(d)
    live(d)


@breach("NEW-8", prelude=False, weight=2)
def no_lead_date(d: Deal) -> None:
    """NEW-8: «Дата создания лида» is never filled."""
    appear(d)
    reach(d, d.rng.choice(("meeting", "in_work", "deciding")), skip={"date"}, stay=True)
    d.broken("NEW-8", d.entered + 60)
    settle(d)
    live(d)


@edge("NEW-9", days=2)
def working_day_in_new(d: Deal, late: int) -> None:
    """NEW-9: a lead leaves «Новые заявки» within nine working hours."""
    first_touch(d, True)
    due = add_work(d.born, 9 * HOUR)
    d.at(due - 600)
    go(d, "meeting", at=due + late)
    d.edge(late, "NEW-9", due)
    live(d)


@breach("NEW-9", days=4, weight=2)
def forgotten_in_new(d: Deal) -> None:
    """NEW-9: called once and forgotten for days."""
    first_touch(d, True)
    d.broken("NEW-9", add_work(d.born, 9 * HOUR))
    d.work(12 * HOUR, 20 * HOUR)
    d.call_out(True)
    live_from_talk(d)


@breach("NEW-13", weight=2)
def own_task_in_new(d: Deal) -> None:
    """NEW-13: in «Новые заявки» the manager sets no tasks by hand."""
    first_touch(d, True)
    d.pause(10, 60)
    own = d.task("other", add_work(d.t, 3 * HOUR))
    d.broken("NEW-13", d.t - 1, own)
    live_from_talk(d)


# ------------------------------------------------------------------------------------ WRK

@edge("WRK-1")
def contact_before_in_work(d: Deal, late: int) -> None:
    """WRK-1: «Взято в работу» only after contact, at the latest a minute after the move."""
    first_touch(d, False)
    d.pause(20, 200)
    go(d, "in_work")
    d.at(d.entered + 60 + late)
    d.call_out(True)
    d.edge(late, "WRK-1", d.entered + 60)
    d.work(60, 1800)
    go(d, "deciding")
    live(d)


@breach("WRK-1")
def in_work_unreached(d: Deal) -> None:
    """WRK-1: taken into work though nobody was reached; then a miss, then the right stage."""
    first_touch(d, False)
    d.pause(20, 200)
    go(d, "in_work")
    d.broken("WRK-1", d.entered + 60)
    d.work(HOUR, 2 * HOUR)
    d.call_out(False)
    d.work(60, 900)
    go(d, "no_answer")
    live(d)


@edge("WRK-2")
def scenario_after_each_contact(d: Deal, late: int) -> None:
    """WRK-2: every contact ends with a scenario, within a working hour."""
    reach(d, "in_work")
    d.work(300, 1800)
    call = d.call_out(True)
    due = add_work(call, HOUR)
    d.at(due + late)
    d.scenario("meeting")
    d.edge(late, "WRK-2", due)
    go(d, "meeting", skip={"scenario"})
    live(d)


@breach("WRK-2", weight=2)
def client_wrote_in_work(d: Deal) -> None:
    """WRK-2: the client writes; the scenario comes hours later."""
    reach(d, "in_work")
    d.work(300, 1800)
    d.broken("WRK-2", add_work(d.message_in(), HOUR))
    d.pause(60, 200)
    d.message_out()
    d.work(90 * MINUTE, 4 * HOUR)
    go(d, "messaging")
    live(d)


@edge("WRK-2L")
def scenario_before_leaving_work(d: Deal, late: int) -> None:
    """WRK-2L: «Взято в работу» is left with a scenario, at the latest a minute after the move."""
    reach(d, "in_work")
    d.work(300, 1800)
    go(d, "deciding", skip={"scenario"})
    d.scenario("deciding", at=d.entered + 60 + late)
    d.edge(late, "WRK-2L", d.entered + 60)
    d.at(max(d.t, d.entered + 90))
    live(d)


@breach("WRK-2L", weight=2)
def no_scenario_from_work(d: Deal) -> None:
    """WRK-2L: left «Взято в работу» by hand, no scenario."""
    reach(d, "in_work")
    d.work(300, 1800)
    go(d, d.rng.choice(("deciding", "meeting", "contract", "messaging")), skip={"scenario"}, stay=True)
    d.broken("WRK-2L", d.entered + 60)
    settle(d)
    live(d)


@edge("WRK-4")
def task_closed_in_work(d: Deal, late: int) -> None:
    """WRK-4: no deal in work without a task for more than 15 working minutes."""
    reach(d, "in_work")
    d.work(300, 1800)
    closed = d.done(d.open_task("process_request"))
    d.pause(60, 300)
    go(d, "deciding", at=add_work(closed, QUARTER) + late)
    d.edge(late, "WRK-4", add_work(closed, QUARTER))
    live(d)


@edge("WRK-5")
def comment_from_work_to_deferred(d: Deal, late: int) -> None:
    """WRK-5: from work into «Отложенный спрос» with a comment, at the latest a minute after the move."""
    reach(d, "in_work")
    d.work(300, 1800)
    go(d, "deferred", skip={"comment"}, stay=True)
    d.comment(at=d.entered + 60 + late)
    d.edge(late, "WRK-5", d.entered + 60)
    settle(d)
    live(d)


@edge("WRK-6", days=3)
def delay_in_work_left(d: Deal, late: int) -> None:
    """WRK-6: not longer than nine working hours in work without a reason; here it leaves just then."""
    entered = reach(d, "in_work")
    due = add_work(entered, 9 * HOUR)
    d.at(due - 600)
    go(d, "deciding", skip={"comment"}, at=due + late)
    d.edge(late, "WRK-6", due)
    live(d)


@edge("WRK-6", days=3)
def delay_in_work_explained(d: Deal, late: int) -> None:
    """WRK-6: not longer than nine working hours in work without a reason; here a comment gives it just then."""
    entered = reach(d, "in_work")
    due = add_work(entered, 9 * HOUR)
    d.at(due + late)
    d.comment()
    d.edge(late, "WRK-6", due)
    d.work(HOUR, 3 * HOUR)
    go(d, "meeting")
    live(d)


@breach("WRK-7", "MISS-3", weight=2)
def no_answer_after_a_talk(d: Deal) -> None:
    """WRK-7, MISS-3: «Недозвон» chosen though the client had just been spoken to."""
    reach(d, "in_work")
    d.work(300, 1800)
    d.call_out(True)
    d.pause(20, 200)
    go(d, "no_answer", stay=True)
    d.broken("WRK-7", d.entered)
    d.broken("MISS-3", d.entered + 60)
    settle(d)
    live(d)


@breach("WRK-7")
def outcome_without_contact(d: Deal) -> None:
    """WRK-7: «Принимает решение» chosen before anybody was spoken to; the call comes seconds later."""
    first_touch(d, False)
    d.pause(20, 200)
    d.set("pause_reason", "Советуется с семьёй")
    moved = go(d, "in_work", stay=True)
    d.at(moved + 15)
    d.scenario("deciding")
    d.at(moved + 40)
    d.broken("WRK-7", d.move("deciding"))
    d.at(moved + 50)
    d.call_out(True, seconds=60)
    settle(d)
    live(d)


@edge("WRK-9", days=2)
def request_task_in_work(d: Deal, late: int) -> None:
    """WRK-9: in work the task «Обработать заявку» is open, five minutes after entering at the latest."""
    first_touch(d, True)
    d.pause(20, 90)
    d.done(d.open_task("process_request"))
    entered = go(d, "in_work", stay=True)
    d.at(entered + 300 + late)
    request_task(d)
    d.edge(late, "WRK-9", entered + 300)
    live(d)


@breach("WRK-9", "WRK-4")
def no_task_in_work(d: Deal) -> None:
    """WRK-9, WRK-4: in work with no task at all."""
    first_touch(d, True)
    d.pause(20, 90)
    d.done(d.open_task("process_request"))
    entered = go(d, "in_work", stay=True)
    d.broken("WRK-9", entered + 300)
    d.broken("WRK-4", add_work(entered, QUARTER))
    d.work(30 * MINUTE, 2 * HOUR)
    go(d, "meeting")
    live(d)


@breach("WRK-10", weight=2)
def own_task_in_work(d: Deal) -> None:
    """WRK-10: in work the manager sets no tasks by hand."""
    reach(d, "in_work")
    d.work(300, 1800)
    own = d.task("other", add_work(d.t, 3 * HOUR))
    d.broken("WRK-10", d.t - 1, own)
    live(d)
