"""Breaches of the final stages, and moves the regulation does not know."""

from catalogue import breach, edge
from deal import Deal
from habits import SCRIPTED, first_touch, go, live, missed_touch, reach, settle, work_moment
from worktime import HOUR


# ------------------------------------------------------------------------------------ LOST and NQ: what they share

def reason_with_the_move(d: Deal, late: int, stage: str, rule: str, field: str, reason: str) -> None:
    entered = reach(d, stage, skip={"reason"})
    d.set(field, reason, at=entered + 60 + late)
    d.edge(late, rule, entered + 60)


def touch_after_closing(d: Deal, late: int, stage: str, rule: str) -> None:
    entered = reach(d, stage)
    d.at(entered + 300 + late)
    d.message_out() if d.rng.random() < .5 else d.call_out(False)
    if late:
        d.broken(rule, entered + 301)
    else:
        d.kept(rule, entered + 300, entered + 300)


def task_after_closing(d: Deal, late: int, stage: str, rule: str) -> None:
    first_touch(d, True)
    d.pause(20, 100)
    entered = go(d, stage, skip={"request", "close"})
    d.at(entered + 300 + late)
    d.done(d.open_task("process_request"))
    d.edge(late, rule, entered + 300)


def reopened_alone(d: Deal, stage: str, rule: str) -> None:
    reach(d, stage)
    d.work(3 * HOUR, 15 * HOUR)
    d.broken(rule, go(d, d.rng.choice(("deciding", "meeting", "in_work"))))
    d.pause(300, 1500)
    d.call_out(True)
    d.pause(20, 90)
    if d.stage == "in_work":
        go(d, "deciding")
    live(d)


def contact_before_closing(d: Deal, late: int, stage: str, rule: str) -> None:
    first_touch(d, False)
    d.pause(20, 200)
    entered = go(d, stage)
    d.message_in(at=entered + 60 + late)
    d.edge(late, rule, entered + 60)


@edge("LOST-2")
def reason_of_loss(d: Deal, late: int) -> None:
    """LOST-2: the reason of the refusal is there, at the latest a minute after the move."""
    reason_with_the_move(d, late, "lost", "LOST-2", "lost_reason", "Дорого")


@breach("LOST-2", weight=4)
def lost_without_reason(d: Deal) -> None:
    """LOST-2: lost, and nobody says why."""
    d.broken("LOST-2", reach(d, "lost", skip={"reason"}) + 60)


@edge("LOST-3")
def touch_after_loss(d: Deal, late: int) -> None:
    """LOST-3: after five minutes for a goodbye the client is left in peace."""
    touch_after_closing(d, late, "lost", "LOST-3")


@breach("LOST-3", weight=3)
def pestered_after_loss(d: Deal) -> None:
    """LOST-3: a manager who can't let go."""
    reach(d, "lost")
    d.work(2 * HOUR, 20 * HOUR)
    d.broken("LOST-3", d.call_out(d.rng.random() < .5))


@edge("LOST-4")
def task_after_loss(d: Deal, late: int) -> None:
    """LOST-4: no task stays open longer than five minutes after the loss."""
    task_after_closing(d, late, "lost", "LOST-4")


@breach("LOST-4", weight=3)
def task_added_to_loss(d: Deal) -> None:
    """LOST-4: a new task on a lost deal."""
    reach(d, "lost")
    d.work(HOUR, 5 * HOUR)
    d.task("other", work_moment(d, 2))
    d.broken("LOST-4", d.t - 1 + 300)


@breach("LOST-5", weight=2)
def loss_reopened(d: Deal) -> None:
    """LOST-5: a lost deal is reopened though the client did not ask."""
    reopened_alone(d, "lost", "LOST-5")


@edge("LOST-6")
def contact_before_loss(d: Deal, late: int) -> None:
    """LOST-6: lost only by the client's own word, at the latest a minute after the move."""
    contact_before_closing(d, late, "lost", "LOST-6")


@edge("NQ-2")
def reason_of_unqualified(d: Deal, late: int) -> None:
    """NQ-2: the reason is there, at the latest a minute after the move."""
    reason_with_the_move(d, late, "unqualified", "NQ-2", "nq_reason", "Нет 16 лет")


@breach("NQ-2", weight=4)
def unqualified_without_reason(d: Deal) -> None:
    """NQ-2: unqualified, and nobody says why."""
    d.broken("NQ-2", reach(d, "unqualified", skip={"reason"}) + 60)


@edge("NQ-3")
def touch_after_unqualified(d: Deal, late: int) -> None:
    """NQ-3: after five minutes work on the deal is over."""
    touch_after_closing(d, late, "unqualified", "NQ-3")


@edge("NQ-4")
def task_after_unqualified(d: Deal, late: int) -> None:
    """NQ-4: no task stays open longer than five minutes."""
    task_after_closing(d, late, "unqualified", "NQ-4")


@breach("NQ-4", weight=2)
def task_added_to_unqualified(d: Deal) -> None:
    """NQ-4: a new task on an unqualified deal, closed an hour later."""
    reach(d, "unqualified")
    d.work(HOUR, 5 * HOUR)
    task = d.task("other", d.t + HOUR)
    d.broken("NQ-4", d.t - 1 + 300)
    d.pause(1800, 3600)
    d.done(task)


@breach("NQ-5", weight=2)
def unqualified_reopened(d: Deal) -> None:
    """NQ-5: an unqualified deal is reopened though the client did not ask."""
    reopened_alone(d, "unqualified", "NQ-5")


@edge("NQ-6")
def contact_before_unqualified(d: Deal, late: int) -> None:
    """NQ-6: unqualified only after a contact, at the latest a minute after the move."""
    contact_before_closing(d, late, "unqualified", "NQ-6")


# ------------------------------------------------------------------------------------ WON

@edge("WON-1")
def signed_before_won(d: Deal, late: int) -> None:
    """WON-1: the contract is signed, at the latest a minute after the move."""
    entered = reach(d, "won", skip={"signed"}, stay=True)
    d.set("signed_at", entered + 60, at=entered + 60 + late)
    d.edge(late, "WON-1", entered + 60)
    settle(d)


@edge("WON-2")
def paid_before_won(d: Deal, late: int) -> None:
    """WON-2: the payment is there, at the latest a minute after the move."""
    entered = reach(d, "won", skip={"paid"}, stay=True)
    d.set("paid_at", True, at=entered + 60 + late)
    d.edge(late, "WON-2", entered + 60)
    settle(d)


@breach("WON-1", "WON-2", weight=2)
def won_on_a_promise(d: Deal) -> None:
    """WON-1, WON-2: won without signature or payment."""
    entered = reach(d, "won", skip={"signed", "paid"})
    d.broken("WON-1", entered + 60)
    d.broken("WON-2", entered + 60)


@breach("WON-4", weight=2)
def won_without_meeting(d: Deal) -> None:
    """WON-4: won straight from «Принимает решение», with neither a meeting nor an online contract."""
    reach(d, "deciding")
    d.work(HOUR, 3 * HOUR)
    d.broken("WON-4", go(d, "won"))


@edge("WON-5")
def tasks_closed_after_won(d: Deal, late: int) -> None:
    """WON-5: all tasks are closed, five minutes after winning at the latest."""
    entered = reach(d, "won", skip={"close"})
    d.at(entered + 300 + late)
    d.done(d.open[0])
    d.edge(late, "WON-5", entered + 300)


@edge("WON-6")
def not_checked_after_won(d: Deal, late: int) -> None:
    """WON-6: «Не проверять задачи» is on, five minutes after winning at the latest."""
    entered = reach(d, "won", skip={"flag"})
    d.at(entered + 300 + late)
    d.set("skip_task_check", True)
    d.edge(late, "WON-6", entered + 300)


@breach("WON-6", "WON-5", weight=2)
def won_and_left_as_it_was(d: Deal) -> None:
    """WON-5, WON-6: won, and neither tasks closed nor the flag set."""
    entered = reach(d, "won", skip={"flag", "close"})
    d.broken("WON-5", entered + 300)
    d.broken("WON-6", entered + 300)


@edge("WON-7")
def touch_after_won(d: Deal, late: int) -> None:
    """WON-7: after winning the manager's work is over."""
    touch_after_closing(d, late, "won", "WON-7")


# ------------------------------------------------------------------------------------ FLOW

#: every move out of a stage that the graph does not have
ILLEGAL = tuple((source, target) for source, targets in (
    ("new", "won"), ("in_work", "new won"), ("no_answer", "new won"), ("messaging", "new no_answer won"),
    ("deciding", "new in_work no_answer"), ("meeting", "new in_work no_answer"), ("contract", "new in_work no_answer"),
    ("deferred", "new no_answer won"), ("lost", "no_answer unqualified won"), ("unqualified", "no_answer lost won"),
    ("won", "new in_work no_answer messaging deciding meeting contract deferred lost unqualified"))
    for target in targets.split())


def illegal_move(d: Deal, source: str, target: str) -> None:
    """FLOW: a move that the regulation does not know; all else about it is in order."""
    if source == "new":
        first_touch(d, True)
    else:
        reach(d, source)
    if source == "no_answer":
        missed_touch(d, True)
        d.pause(20, 200)
    else:
        d.work(600, 3 * HOUR)
    if source in SCRIPTED:
        d.scenario("deciding")
    if source in ("lost", "unqualified") or target == "no_answer" and source == "won":
        d.call_in(False)                                    # the client asked for it
        d.pause(20, 200)
    if target == "no_answer":
        d.call_out(False)
        d.pause(20, 100)
    moved = go(d, target, skip={"scenario"})
    d.broken("FLOW", moved)
    if target == "won" and not {"meeting", "contract"} & set(d.visited):
        d.broken("WON-4", moved)
    live(d)


def _register() -> None:
    for source, target in ILLEGAL:
        def tell(d: Deal, source: str = source, target: str = target) -> None:
            illegal_move(d, source, target)
        tell.__name__ = f"illegal_{source}_to_{target}"
        tell.__doc__ = f"FLOW: from {source} to {target}, a move that the regulation does not know."
        breach("FLOW", copies=1, weight=.2)(tell)


_register()


@breach("FLOW", weight=1, prelude=False)
def begun_elsewhere(d: Deal) -> None:
    """FLOW: a deal begins in «Новые заявки», not where the manager likes."""
    d.create(stage="deciding", by=d.manager.id, channel="answered_call", prefilled=("lead_date",))
    d.broken("FLOW", d.born)
    d.pause(1, 5)
    d.call_in(True, seconds=40, on_contact=False)
    d.pause(5, 30)
    d.comment()
    settle(d)
    live(d)


@edge("FLOW")
def slip_and_back(d: Deal, late: int) -> None:
    """FLOW: an illegal move taken back within a minute did not happen; after 61 seconds it did."""
    reach(d, "deciding", skip={"comment"})
    d.pause(300, 2000)
    moved = d.move("in_work")
    d.pause(10, 20)
    d.scenario("deciding")
    d.at(moved + 60 + late)
    d.move("deciding")
    d.edge(late, "FLOW", moved)
    live(d)


@edge("LOST-2", "LOST-5")
def slip_into_loss(d: Deal, late: int) -> None:
    """LOST-2, LOST-5: dragged into «Не продали» and back: within a minute nothing, after 61 seconds a reopening."""
    d.native_loss = False                           # amoCRM's own reason tells no time: not in this deal
    reach(d, "meeting")
    d.pause(300, 2000)
    moved = d.move("lost")
    d.at(moved + 60 + late)
    back = d.move("meeting")
    d.edge(late, "LOST-2", moved + 60)
    if late:
        d.broken("LOST-5", back)
    live(d)
