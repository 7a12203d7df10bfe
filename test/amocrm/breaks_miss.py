"""Breaches of «Не было 1 касания»: misses, messages, callbacks and the bot's part in them."""

from catalogue import breach, edge
from deal import BOT, Deal
from habits import (bot_gives_up, callback_task, close_tasks, first_touch, go, live, missed_touch, no_answer_again, reach,
                    settle)
from worktime import HOUR, MINUTE, add_work


def miss_until_last(d: Deal) -> None:
    """In the stage: two more misses, each with its scenario; then the third call, missed, without one yet."""
    for _ in range(2):
        missed_touch(d)
        d.work(20, 600)
        no_answer_again(d)
    missed_touch(d)
    d.work(20, 600)


@edge("MISS-1")
def message_after_first_miss(d: Deal, late: int) -> None:
    """MISS-1: after the first miss a message by hand, within 30 working minutes of entering."""
    entered = reach(d, "no_answer", skip={"message"})
    due = add_work(entered, 30 * MINUTE)
    d.at(due + late)
    d.message_out()
    d.edge(late, "MISS-1", due)
    live(d)


@breach("MISS-1", weight=5)
def no_message_after_miss(d: Deal) -> None:
    """MISS-1: the client gets no message at all."""
    entered = reach(d, "no_answer", skip={"message"})
    d.broken("MISS-1", add_work(entered, 30 * MINUTE))
    missed_touch(d)
    d.work(20, 600)
    no_answer_again(d)
    missed_touch(d, True)
    d.work(60, 900)
    go(d, "in_work")
    live(d)


@edge("MISS-3")
def miss_before_the_stage(d: Deal, late: int) -> None:
    """MISS-3: the stage is for the unreached: a miss, at the latest a minute after the move."""
    d.work(60, 600)
    d.message_out()
    d.pause(20, 90)
    entered = go(d, "no_answer", skip={"message"})
    d.at(entered + 60 + late)
    d.call_out(False)
    d.edge(late, "MISS-3", entered + 60)
    d.work(20, 600)
    d.message_out()
    d.pause(5, 60)
    no_answer_again(d)
    missed_touch(d, True)
    d.work(60, 900)
    go(d, "deciding")
    live(d)


@breach("MISS-3", weight=2)
def never_called(d: Deal) -> None:
    """MISS-3: «Недозвон» chosen although nobody called, only a message went out."""
    d.work(60, 600)
    d.message_out()
    d.pause(20, 90)
    entered = go(d, "no_answer")
    d.broken("MISS-3", entered + 60)
    live(d)


@breach("MISS-5", weight=2)
def given_up_early(d: Deal) -> None:
    """MISS-5: closed as unqualified by hand after the second miss."""
    reach(d, "no_answer")
    missed_touch(d)
    d.work(20, 600)
    no_answer_again(d)
    d.work(HOUR, 90 * MINUTE)
    d.broken("MISS-5", go(d, "unqualified"))


@edge("MISS-6")
def scenario_after_miss(d: Deal, late: int) -> None:
    """MISS-6: the outcome of a touch is recorded by a scenario, within a working hour."""
    reach(d, "no_answer")
    missed_touch(d)
    call = d.last_call
    due = add_work(call, HOUR)
    d.at(due + late)
    no_answer_again(d)
    d.edge(late, "MISS-6", due)
    live_after_miss(d)


def live_after_miss(d: Deal) -> None:
    missed_touch(d, True)
    d.work(60, 900)
    go(d, "deciding")
    live(d)


@breach("MISS-6", weight=2)
def miss_not_recorded(d: Deal) -> None:
    """MISS-6: a miss is recorded only hours later."""
    reach(d, "no_answer")
    missed_touch(d)
    d.broken("MISS-6", add_work(d.last_call, HOUR))
    d.work(2 * HOUR, 5 * HOUR)
    no_answer_again(d)
    live_after_miss(d)


@edge("MISS-6T")
def scenario_after_talk(d: Deal, late: int) -> None:
    """MISS-6T: a talk is recorded by a scenario too, within a working hour, wherever the deal then is."""
    reach(d, "no_answer")
    missed_touch(d, True)
    due = add_work(d.last_call, HOUR)
    d.work(60, 300)
    go(d, "in_work", skip={"scenario"})
    d.at(due + late)
    d.scenario("meeting")
    d.edge(late, "MISS-6T", due)
    go(d, "meeting", skip={"scenario"})
    live(d)


@edge("MISS-7", days=4)
def callback_in_time(d: Deal, late: int) -> None:
    """MISS-7: the callback task is done, at the latest a working hour after it is due."""
    reach(d, "no_answer")
    task = d.open_task("callback")
    due = add_work(d.due(task), HOUR)
    d.at(due + late)
    d.call_out(False)
    d.edge(late, "MISS-7", due, task if late else None)
    d.work(20, 600)
    no_answer_again(d)
    live_after_miss(d)


@breach("MISS-7", days=4, weight=3)
def callback_forgotten(d: Deal) -> None:
    """MISS-7: nobody calls back for a day."""
    reach(d, "no_answer")
    task = d.open_task("callback")
    d.broken("MISS-7", add_work(d.due(task), HOUR), task)
    d.work(8 * HOUR, 14 * HOUR)
    d.call_out(True)
    d.work(60, 900)
    go(d, "in_work")
    live(d)


@edge("MISS-8")
def answer_to_messaging(d: Deal, late: int) -> None:
    """MISS-8: the client answered in the messenger: into «Ведётся переписка» within a working hour."""
    reach(d, "no_answer")
    d.pause(60, 900)
    due = add_work(d.message_in(), HOUR)
    d.at(due - 300)
    go(d, "messaging", at=due + late)
    d.edge(late, "MISS-8", due)
    live(d)


@breach("MISS-8")
def answer_to_lost(d: Deal) -> None:
    """MISS-8: the client answered, and the deal is lost instead of corresponded with."""
    reach(d, "no_answer")
    d.pause(60, 900)
    d.broken("MISS-8", add_work(d.message_in(), HOUR))
    d.work(300, 1800)
    go(d, "lost")


@edge("MISS-9")
def leave_after_talk(d: Deal, late: int) -> None:
    """MISS-9: after a talk the deal leaves within a working hour."""
    reach(d, "no_answer")
    missed_touch(d, True)
    due = add_work(d.last_call, HOUR)
    d.at(due - 600)
    go(d, "meeting", at=due + late)
    d.edge(late, "MISS-9", due)
    live(d)


@breach("MISS-9")
def reached_and_left_there(d: Deal) -> None:
    """MISS-9: spoken to, the scenario chosen, but the deal stays among the unreached."""
    reach(d, "no_answer")
    missed_touch(d, True)
    d.broken("MISS-9", add_work(d.last_call, HOUR))
    d.work(60, 900)
    d.scenario("deciding")
    d.work(2 * HOUR, 4 * HOUR)
    go(d, "deciding", skip={"scenario"})
    live(d)


@edge("MISS-10", days=5)
def robot_closes_after_four(d: Deal, late: int) -> None:
    """MISS-10: after the fourth miss the bot moves the deal to «Не целевой», within five minutes."""
    reach(d, "no_answer")
    miss_until_last(d)
    chosen = d.scenario("no_answer")
    callback_task(d)
    d.set("nq_reason", "Не дозвонились", BOT)
    d.at(chosen + 300 + late)
    d.move("unqualified", BOT)
    close_tasks(d, BOT)
    d.edge(late, "MISS-10", chosen + 300)


@breach("MISS-10", "MISS-13B", days=5)
def robot_slept_through_the_fourth(d: Deal) -> None:
    """MISS-10, MISS-13B: after the fourth miss the bot does nothing; the manager closes the deal himself."""
    reach(d, "no_answer")
    miss_until_last(d)
    chosen = d.scenario("no_answer")
    d.broken("MISS-10", chosen + 300)
    d.broken("MISS-13B", chosen + 300)
    d.work(10 * MINUTE, HOUR)
    go(d, "unqualified", skip={"scenario"})


@edge("MISS-11", days=5)
def robot_gives_the_reason(d: Deal, late: int) -> None:
    """MISS-11: the bot fills the reason of «Не целевой», within five minutes."""
    reach(d, "no_answer")
    miss_until_last(d)
    moved = bot_gives_up(d, skip={"reason"})
    d.set("nq_reason", "Не дозвонились", BOT, at=moved + 300 + late)
    d.edge(late, "MISS-11", moved + 300)


@breach("MISS-11", days=5)
def robot_gives_no_reason(d: Deal) -> None:
    """MISS-11: the bot closes the deal without a reason."""
    reach(d, "no_answer")
    miss_until_last(d)
    d.broken("MISS-11", bot_gives_up(d, skip={"reason"}) + 300)


@edge("MISS-12N")
def robot_moves_from_new(d: Deal, late: int) -> None:
    """MISS-12N: «Недозвон» in «Новые заявки»: the bot moves the deal within five minutes."""
    first_touch(d, False)
    d.pause(20, 200)
    if not d.has("lead_date"):
        d.set("lead_date", d.born)
    chosen = d.scenario("no_answer")
    d.at(chosen + 300 + late)
    d.move("no_answer", BOT)
    d.edge(late, "MISS-12N", chosen + 300)
    settle(d)
    live(d)


@edge("MISS-12W")
def robot_moves_from_work(d: Deal, late: int) -> None:
    """MISS-12W: «Недозвон» in «Взято в работу»: the bot moves the deal within five minutes."""
    reach(d, "in_work")
    d.work(600, 2 * HOUR)
    d.call_out(False)
    d.pause(20, 200)
    chosen = d.scenario("no_answer")
    d.at(chosen + 300 + late)
    d.move("no_answer", BOT)
    d.edge(late, "MISS-12W", chosen + 300)
    settle(d)
    live(d)


@breach("MISS-12N")
def robot_left_it_to_the_manager(d: Deal) -> None:
    """MISS-12N: the bot does not move the deal; the manager does, much later."""
    first_touch(d, False)
    d.pause(20, 200)
    if not d.has("lead_date"):
        d.set("lead_date", d.born)
    d.broken("MISS-12N", d.scenario("no_answer") + 300)
    d.work(20 * MINUTE, HOUR)
    go(d, "no_answer", skip={"scenario"}, by=d.manager.id)
    live(d)


@edge("MISS-13")
def callback_on_entering(d: Deal, late: int) -> None:
    """MISS-13: entering, the bot sets the callback task within five minutes."""
    entered = reach(d, "no_answer", stay=True)
    d.at(entered + 300 + late)
    callback_task(d)
    d.edge(late, "MISS-13", entered + 300)
    d.pause(10, 400)
    d.message_out()
    live(d)


@breach("MISS-13", "MISS-15")
def no_callback_on_entering(d: Deal) -> None:
    """MISS-13, MISS-15: no callback task, and no other."""
    entered = reach(d, "no_answer", stay=True)
    d.broken("MISS-13", entered + 300)
    d.broken("MISS-15", add_work(entered, 15 * MINUTE))
    d.pause(60, 600)
    d.message_out()
    d.work(2 * HOUR, 3 * HOUR)
    d.call_out(True)
    d.work(60, 900)
    go(d, "meeting")
    live(d)


@edge("MISS-13B")
def callback_after_scenario(d: Deal, late: int) -> None:
    """MISS-13B: «Недозвон» in the stage: the bot sets the next callback within five minutes."""
    reach(d, "no_answer")
    missed_touch(d)
    d.work(20, 600)
    chosen = d.scenario("no_answer")
    close_tasks(d, BOT)
    d.at(chosen + 300 + late)
    callback_task(d)
    d.edge(late, "MISS-13B", chosen + 300)
    live_after_miss(d)


@breach("MISS-14", weight=2)
def own_task_among_unreached(d: Deal) -> None:
    """MISS-14: among the unreached the manager sets no tasks by hand."""
    reach(d, "no_answer")
    d.pause(20, 200)
    own = d.task("other", add_work(d.t, 5 * HOUR))
    d.broken("MISS-14", d.t - 1, own)
    live_after_miss(d)


@edge("MISS-15")
def callback_closed_too_early(d: Deal, late: int) -> None:
    """MISS-15: not without a task for more than 15 working minutes."""
    reach(d, "no_answer")
    missed_touch(d)
    closed = d.done(d.open_task("callback"))
    due = add_work(closed, 15 * MINUTE)
    d.at(due - 60)
    d.scenario("no_answer")
    d.at(due + late)
    callback_task(d)
    d.edge(late, "MISS-15", due)
    live_after_miss(d)
