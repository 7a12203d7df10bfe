"""How an orderly manager and a working Salesbot handle a deal.

`go` leaves a stage and enters another the way the regulation asks; `settle` is the housekeeping right after entering;
`live` carries a deal on, stage after stage, until it is closed or the simulation ends.  A story that breaks something
tells `go` or `settle` what to `skip`.
"""

from typing import Collection, Optional

import school
from deal import BOT, Deal
from words import PAUSES
from worktime import DAY, HOUR, MINUTE, add_work, day_time, is_open, midnight, next_open

FINAL = ("lost", "unqualified", "won")
SCRIPTED = ("new", "in_work", "no_answer")          # stages that Salesbot's scenarios end


# ------------------------------------------------------------------------------------ beginnings

def appear(d: Deal, **how) -> None:
    """A lead comes in and the bot sets «Обработать заявку»."""
    d.create(**how)
    d.pause(1, 6)
    request_task(d)
    if d.status == school.UNSORTED:
        d.pause(10, 40)
        d.accept(None if is_open(d.t) else BOT)


def request_task(d: Deal) -> None:
    d.task("process_request", add_work(d.t, 15 * MINUTE), BOT)


def callback_task(d: Deal, by: Optional[int] = BOT) -> None:
    d.task("callback", add_work(d.t, 2 * HOUR), by)


def close_tasks(d: Deal, by: Optional[int] = None, keep=None) -> None:
    for task in [task for task in d.open if task is not keep]:
        d.pause(1, 12)
        d.done(task, by)


# ------------------------------------------------------------------------------------ leaving and entering

def go(d: Deal, stage: str, *, skip: Collection[str] = (), at: Optional[int] = None, by: Optional[int] = None,
       stay: bool = False) -> int:
    """Do what this stage asks of one who leaves it and the next of one who enters, and move (`at` this very second).

    skip: scenario, comment, date, reason, meeting, return, agreed, pause, signed, paid, request, and settle's words.
    stay: leave the housekeeping in the new stage to the caller.
    """
    source = d.stage
    if source == "messaging" and "comment" not in skip:
        d.pause(5, 60)
        d.comment()
    if source == "new" and not d.has("lead_date") and "date" not in skip:
        d.pause(2, 15)
        d.set("lead_date", d.born)
    prepare(d, stage, skip)
    scripted = source in SCRIPTED and not d.chatted
    if scripted and "scenario" not in skip:
        d.pause(2, 20)
        d.scenario(stage, BOT if d.rng.random() < .3 else None)
    request = d.open_task("process_request")
    if request and source in ("new", "in_work") and stage != "in_work" and "request" not in skip:
        d.pause(0, 2)
        d.done(request, BOT if scripted else None)
    if by is None and stage == "no_answer" and scripted:
        by = BOT
    d.pause(*((1, 4) if by == BOT else (4, 25)))
    if at is not None:
        d.at(at)
    moment = d.move(stage, by)
    if not stay:
        settle(d, skip)
    return moment


def prepare(d: Deal, stage: str, skip: Collection[str] = ()) -> None:
    """What must be known before the deal enters."""
    rng = d.rng
    words = "comment" not in skip
    if stage == "deciding" and "pause" not in skip:
        d.pause(5, 40)
        if words and rng.random() < .6:
            d.comment()
        else:
            d.set("pause_reason", rng.choice([reason for reason in PAUSES if reason != d.fields.get("pause_reason")]))
    elif stage == "meeting" and "meeting" not in skip:
        d.pause(5, 40)
        agree_on_meeting(d, 3)
    elif stage == "contract" and "agreed" not in skip:
        d.pause(5, 40)
        if words and (d.has("agreed_at") or rng.random() < .5):
            d.comment()
        elif not d.has("agreed_at"):
            d.set("agreed_at", True)
    elif stage == "deferred":
        d.pause(5, 40)
        if words:
            d.comment()
        if "return" not in skip:
            d.set("return_on", midnight(d.t) + rng.choice((2, 3, 4, 5, 7, 10, 14, 30, 60)) * DAY)
    elif stage in ("lost", "unqualified") and "reason" not in skip and not (d.has("lost_reason") or d.has("nq_reason")):
        d.pause(5, 40)
        if stage == "unqualified":
            d.set("nq_reason", rng.choice(("Нет 16 лет", "Спам", "Ошиблись номером", "Нужны права тракториста")))
        elif not d.native_loss or rng.random() < .5:
            d.set("lost_reason", rng.choice(("Дорого", "Далеко ехать", "Выбрал другую автошколу")))
        else:
            d.loss_reason()
    elif stage == "won":
        if not d.has("signed_at") and "signed" not in skip:
            d.pause(5, 60)
            d.set("signed_at", d.t)
        if not d.has("paid_at") and "paid" not in skip:
            d.pause(5, 60)
            d.set("paid_at", True)


def agree_on_meeting(d: Deal, most: int) -> None:
    """In one to so many days, between 11:30 and 18:00."""
    d.set("meeting_at", day_time(d.t, d.rng.randint(1, most), d.rng.randrange(11 * HOUR + 1800, 18 * HOUR + 1, 30 * MINUTE)))


def settle(d: Deal, skip: Collection[str] = ()) -> None:
    """Right after entering: the tasks, messages and flags that the stage wants (skip: task, message, close, flag)."""
    rng, by_hand = d.rng, None
    before = list(d.open)
    robot = BOT if not d.chatted else by_hand
    if d.stage == "new" and "task" not in skip:
        if d.chatted:
            d.pause(10, 120)
            d.task("other", add_work(d.t, HOUR))
        else:
            d.pause(1, 6)
            request_task(d)
    elif d.stage == "in_work" and "task" not in skip:
        if d.chatted:
            d.pause(10, 120)
            d.task("other", add_work(d.t, 4 * HOUR))
        elif not d.open_task("process_request"):
            d.pause(1, 6)
            request_task(d)
    elif d.stage == "no_answer":
        if "task" not in skip:
            d.pause(1, 6)
            callback_task(d, robot)
        if "message" not in skip and (d.visited.count("no_answer") == 1 or rng.random() < .3):
            d.work(60, 25 * MINUTE)
            d.message_out(by=0 if rng.random() < .1 else None)
    elif d.stage == "messaging":
        if "close" not in skip:
            close_tasks(d)
        if "message" not in skip:
            d.work(60, 2 * HOUR)
            d.message_out()
    elif d.stage == "deciding" and "task" not in skip:
        d.pause(5, 90)
        d.task("other", work_moment(d, rng.randint(1, 3)))
    elif d.stage == "meeting" and "task" not in skip:
        d.pause(5, 90)
        d.task("meeting_control", d.fields.get("meeting_at", d.t + DAY) - 2 * HOUR, rng.choice((robot, by_hand)))
    elif d.stage == "contract":
        if "task" not in skip:
            d.pause(5, 90)
            d.task("contract_control", work_moment(d, rng.randint(1, 2)), rng.choice((robot, by_hand)))
    elif d.stage == "deferred" and "task" not in skip:
        d.pause(5, 90)
        d.task("other", d.fields.get("return_on", midnight(d.t) + 7 * DAY) + rng.randint(10, 17) * HOUR)
    elif d.stage == "won" and "flag" not in skip and not d.has("skip_task_check"):
        d.pause(1, 60)
        d.set("skip_task_check", True, robot)
    if d.stage not in ("new", "in_work") and "close" not in skip:
        for task in before:
            if task in d.open:
                d.pause(1, 12)
                d.done(task)
    if d.stage == "contract" and "message" not in skip:
        d.work(5 * MINUTE, 2 * HOUR)
        d.message_out()


def work_moment(d: Deal, days: int) -> int:
    """Some working moment so many days ahead, well inside the hours."""
    return day_time(d.t, days, d.rng.randrange(10 * HOUR, 18 * HOUR, 15 * MINUTE))


# ------------------------------------------------------------------------------------ life in each stage

def live(d: Deal) -> None:
    """Stage after stage, all in order, until closed or the end of the simulation."""
    while d.t < d.world.horizon:
        following = STAY[d.stage](d)
        if following is None or d.t >= d.world.horizon:
            return
        go(d, following)


def pick(d: Deal, **weights: int) -> str:
    return d.rng.choices(list(weights), list(weights.values()))[0]


def first_touch(d: Deal, reached: bool) -> None:
    """Within a quarter of an hour of working time."""
    d.at(max(d.t, next_open(add_work(d.entered, d.rng.randint(40, 13 * MINUTE)))))
    d.call_out(reached)


def reach(d: Deal, stage: str, **how) -> int:
    """From a fresh lead into this stage, in order and soon."""
    first_touch(d, stage != "no_answer")
    d.pause(20, 200)
    if stage == "won":
        go(d, "contract")
        d.work(HOUR, 3 * HOUR)
    return go(d, stage, **how)


def stay_new(d: Deal) -> Optional[str]:
    rng = d.rng
    if d.channel == "answered_call" and len(d.visited) == 1:
        d.pause(5, 60)
    elif d.channel == "chat" and not d.chatted:
        d.at(max(d.t, add_work(d.entered, rng.randint(40, 13 * MINUTE))))
        d.message_out()
        for _ in range(rng.randint(0, 2)):
            d.pause(20, 900)
            d.message_in()
            d.work(30, 600)
            d.message_out()
        d.work(20, 900)
        return pick(d, messaging=60, in_work=8, deciding=8, meeting=10, unqualified=8, lost=6)
    else:
        first_touch(d, rng.random() < (.62 if len(d.visited) == 1 else .95))
        if d.last_call_missed:
            if d.chatted:
                d.work(60, 1800)
                d.call_out(True)
            else:
                if rng.random() < .4:
                    d.work(60, 1200)
                    d.call_out(False)
                d.work(10, 600)
                return "no_answer"
    d.work(20, 1200)
    return pick(d, in_work=30, meeting=26, deciding=16, deferred=6, contract=6, messaging=6, unqualified=4, lost=6)


def stay_in_work(d: Deal) -> str:
    rng = d.rng
    d.work(300, 3 * HOUR)
    if rng.random() < .45:
        d.call_out(rng.random() < .75)
        missed = d.last_call_missed
        d.work(30, 30 * MINUTE)
        if missed and not d.chatted:
            return "no_answer"
    return pick(d, meeting=36, deciding=22, contract=12, deferred=8, messaging=8, lost=10, unqualified=4)


def missed_touch(d: Deal, reached: bool = False) -> None:
    """The next call of the callback task, somewhere about its due moment."""
    rng = d.rng
    task = d.open_task("callback")
    due = d.due(task) if task else add_work(d.t, HOUR)
    early = due - rng.randint(60, 1200)
    if rng.random() < .4 and is_open(early) and early > d.t:
        d.at(early)
    else:
        d.at(max(d.t, next_open(add_work(due, rng.randint(30, 40 * MINUTE)))))
    d.call_out(reached)


def no_answer_again(d: Deal) -> None:
    """Scenario «Недозвон» in the stage: the bot closes the callback task and sets another."""
    d.scenario("no_answer", BOT if d.rng.random() < .3 else None)
    d.pause(0, 3)
    close_tasks(d, BOT)
    d.pause(0, 3)
    callback_task(d)


def bot_gives_up(d: Deal, skip: Collection[str] = (), at: Optional[int] = None) -> int:
    """The fourth miss: scenario, reason, move by the bot, tasks closed."""
    d.scenario("no_answer")
    if "reason" not in skip:
        d.set("nq_reason", "Не дозвонились", BOT)
    d.pause(0, 3)
    if at is not None:
        d.at(at)
    moment = d.move("unqualified", BOT)
    close_tasks(d, BOT)
    return moment


def stay_no_answer(d: Deal) -> Optional[str]:
    rng = d.rng
    if d.chatted:                                                    # no scenarios any more
        missed_touch(d, True)
        d.work(20, 25 * MINUTE)
        return "deciding"
    for touch in (1, 2, 3):
        if rng.random() < .12:                                       # the client writes first
            d.pause(600, 5400)
            d.message_in()
            d.work(60, 50 * MINUTE)
            return pick(d, messaging=90, in_work=5, deciding=5)
        reached = rng.random() < .28
        missed_touch(d, reached)
        d.work(20, 25 * MINUTE)
        if reached:
            return pick(d, in_work=30, meeting=25, deciding=20, deferred=8, lost=9, contract=4, unqualified=4)
        if touch < 3:
            no_answer_again(d)
    bot_gives_up(d)
    return stay_closed(d)


def stay_messaging(d: Deal) -> str:
    rng = d.rng
    limit = d.entered + 40 * HOUR                                    # the last round may take a night
    for _ in range(rng.randint(1, 5)):
        if d.t > limit:
            break
        d.pause(5 * MINUTE, 9 * HOUR)
        d.message_in()
        d.pause(60, 120)
        d.work(60, 2 * HOUR)
        d.message_out(by=0 if rng.random() < .08 else None)
    d.work(120, HOUR)
    return pick(d, meeting=28, deciding=28, contract=14, deferred=8, lost=12, unqualified=6, in_work=4)


def next_task(d: Deal):
    return min(d.open, key=d.due)


def stay_deciding(d: Deal) -> str:
    rng = d.rng
    for _ in range(rng.randint(1, 3)):
        if not d.open:
            d.task("other", work_moment(d, 1))
        if rng.random() < .12:                                       # «давайте на день позже»
            d.pause(60, 900)
            d.put_off(next_task(d), d.due(next_task(d)) + DAY)
        task = next_task(d)
        d.at(max(d.t, next_open(d.due(task) + rng.randint(-1500, 1500))))
        reached = rng.random() < .8
        d.call_out(reached)
        d.pause(20, 200)
        if reached and rng.random() < .75:
            break
        d.comment()
        d.pause(5, 60)
        d.task("other", work_moment(d, rng.randint(1, 2)))
        d.pause(2, 20)
        d.done(task)
    d.work(60, 900)
    return pick(d, meeting=34, contract=26, lost=20, deferred=12, messaging=5, unqualified=3)


def confirm_meeting(d: Deal) -> None:
    """The manager calls before the meeting."""
    meeting = d.fields["meeting_at"]
    moment = max(d.t + 60, next_open(meeting - d.rng.randint(70 * MINUTE, 2 * HOUR)))
    if meeting - d.t > 20 * HOUR and d.rng.random() < .4:
        moment = max(d.t + 60, day_time(meeting, -1, d.rng.randint(15 * HOUR, 19 * HOUR)))
    if moment < meeting:
        d.at(moment)
        d.call_out(d.rng.random() < .9)
        d.pause(10, 120)


def stay_meeting(d: Deal) -> str:
    rng = d.rng
    while True:
        confirm_meeting(d)
        control = d.open_task("meeting_control")
        if control and rng.random() < .5:
            d.done(control)
        if rng.random() < .12:                                       # the client asks for another day
            d.pause(10, 60)
            agree_on_meeting(d, 2)
            continue
        d.at(max(d.t, d.fields["meeting_at"] + rng.randint(30 * MINUTE, 80 * MINUTE)))
        if rng.random() < .12:                                       # did not come
            d.call_out(True)
            d.pause(10, 60)
            agree_on_meeting(d, 2)
            control = d.open_task("meeting_control")
            if not control:
                d.pause(5, 30)
                d.task("meeting_control", d.fields["meeting_at"] - 2 * HOUR)
            continue
        return pick(d, won=34, contract=30, deciding=18, lost=8, deferred=5, messaging=3, unqualified=2)


def stay_contract(d: Deal) -> str:
    rng = d.rng
    for _ in range(rng.randint(1, 3)):
        d.work(3 * HOUR, 16 * HOUR)
        if rng.random() < .5:
            d.call_out(rng.random() < .8)
        else:
            d.message_out()
        d.pause(5, 60)
    if rng.random() < .15:
        return pick(d, deciding=30, lost=40, deferred=20, messaging=10)
    if not d.has("signed_at"):
        d.set("signed_at", d.t)
        if rng.random() < .5:
            d.work(HOUR, 16 * HOUR)
    d.pause(5, 60)
    if not d.has("paid_at"):
        d.set("paid_at", True)
    d.work(60, 2 * HOUR)
    return "won"


def stay_deferred(d: Deal) -> Optional[str]:
    rng = d.rng
    while True:
        d.at(max(d.t, d.fields["return_on"] + rng.randint(9 * HOUR + 600, 17 * HOUR)))
        if d.t > d.world.horizon:
            return None
        reached = rng.random() < .8
        d.call_out(reached)
        if not reached:
            d.work(HOUR, 3 * HOUR)
            d.call_out(True)
        d.pause(20, 200)
        if rng.random() < .75:
            return pick(d, meeting=40, deciding=20, contract=15, lost=20, messaging=5)
        d.comment()
        d.pause(5, 30)
        d.set("return_on", midnight(d.t) + rng.choice((2, 3, 5, 7, 14)) * DAY)
        d.pause(5, 30)
        before = list(d.open)
        d.task("other", d.fields["return_on"] + 10 * HOUR)
        for task in before:
            d.pause(2, 20)
            d.done(task)


def stay_closed(d: Deal) -> Optional[str]:
    """Lost or unqualified: once in a while the client comes back by himself."""
    rng = d.rng
    if rng.random() > .1:
        return None
    d.at(d.t + rng.randint(600, 4 * DAY))
    if rng.random() < .3:
        d.message_in()
        d.pause(60, 120)
        d.work(30, HOUR)
        d.message_out()
        if rng.random() < .5:
            return None
    else:
        d.working()
        d.call_in(True)
        if rng.random() < .2:
            return None                                              # only a question
    d.pause(30, 200)
    return pick(d, new=15, in_work=20, deciding=25, meeting=30, messaging=5, deferred=5)


def stay_won(d: Deal) -> None:
    if d.rng.random() < .1:                                          # «во сколько завтра занятие?»
        d.pause(HOUR, 2 * DAY)
        d.message_in()
        d.pause(60, 120)
        d.work(60, HOUR)
        d.message_out()


STAY = {"new": stay_new, "in_work": stay_in_work, "no_answer": stay_no_answer, "messaging": stay_messaging,
        "deciding": stay_deciding, "meeting": stay_meeting, "contract": stay_contract, "deferred": stay_deferred,
        "lost": stay_closed, "unqualified": stay_closed, "won": stay_won}
