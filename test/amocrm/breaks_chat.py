"""Breaches of «Ведётся переписка» and «Принимает решение»."""

from catalogue import breach, edge, honest
from deal import BOT, Deal
from habits import first_touch, go, live, reach, settle, work_moment
from worktime import DAY, HOUR, add_work, day_time, next_open


def exchange(d: Deal, rounds: int = 1) -> None:
    """The client writes, the manager answers."""
    for _ in range(rounds):
        d.pause(300, 3600)
        d.message_in()
        d.pause(60, 200)
        d.work(60, HOUR)
        d.message_out()


def after_chat(d: Deal, stage: str = "deciding") -> None:
    """Through correspondence into a later stage: from here on the bot keeps out."""
    reach(d, "messaging")
    exchange(d)
    d.pause(60, 300)
    go(d, stage)


# ------------------------------------------------------------------------------------ CHAT

@breach("CHAT-1")
def robot_replies_in_chat(d: Deal) -> None:
    """CHAT-1: a robot joins the correspondence."""
    reach(d, "messaging")
    exchange(d)
    d.pause(60, 300)
    d.broken("CHAT-1", d.robot_replied())
    live(d)


@breach("CHAT-1")
def bot_moves_out_of_chat(d: Deal) -> None:
    """CHAT-1: the bot moves the deal out of the correspondence."""
    reach(d, "messaging")
    exchange(d)
    d.broken("CHAT-1", go(d, "deciding", by=BOT))
    live(d)


@breach("CHAT-1", "CHAT-10")
def bot_chooses_scenario_in_chat(d: Deal) -> None:
    """CHAT-1, CHAT-10: Salesbot runs a scenario in the correspondence."""
    reach(d, "messaging")
    exchange(d)
    d.pause(60, 300)
    chosen = d.scenario("deciding", BOT)
    d.broken("CHAT-1", chosen)
    d.broken("CHAT-10", chosen)
    live(d)


@edge("CHAT-2")
def fifteen_seconds(d: Deal, late: int) -> None:
    """CHAT-2: an unsigned answer 15 seconds after the client's message is the bot's, 16 seconds after it a person's."""
    reach(d, "messaging")
    d.pause(300, 2000)
    came = d.message_in()
    d.at(came + 16 - late)
    answered = d.message_out(by=BOT)
    if late:
        d.broken("CHAT-2", answered)
    else:
        d.kept("CHAT-2", answered, answered)
    d.work(300, HOUR)
    d.message_out()
    live(d)


@breach("CHAT-2", weight=2)
def bot_answers_in_chat(d: Deal) -> None:
    """CHAT-2: the bot answers the client at once."""
    reach(d, "messaging")
    d.pause(300, 2000)
    d.message_in()
    d.pause(2, 10)
    d.broken("CHAT-2", d.message_out(by=BOT))
    d.work(300, HOUR)
    d.message_out()
    live(d)


def _broadcast(d: Deal, second: int) -> int:
    reach(d, "messaging")
    d.at(day_time(d.world.start, 5, 16 * HOUR + second))
    return d.message_out(by=BOT)


@breach("CHAT-2", day=5, copies=6, weight=0, hours=(9.2, 11.0))
def broadcast(d: Deal) -> None:
    """CHAT-2: the same second on six deals: a broadcast, and no person's hand."""
    d.broken("CHAT-2", _broadcast(d, 0))
    live(d)


@honest(day=5, copies=4, weight=0, hours=(9.2, 11.0), prelude=True)
def four_at_once(d: Deal) -> None:
    """The same second on four deals only: typed in the phone."""
    written = _broadcast(d, 7)
    d.kept("CHAT-2", written, written)
    live(d)


@edge("CHAT-3", days=5)
def three_days_in_chat(d: Deal, late: int) -> None:
    """CHAT-3: not longer than three days in the correspondence."""
    entered = reach(d, "messaging")
    exchange(d, 2)
    due = entered + 72 * HOUR
    d.at(due - 300)
    go(d, "deciding", at=due + late)
    d.edge(late, "CHAT-3", due)
    live(d)


@breach("CHAT-3", days=6, weight=4)
def chat_without_end(d: Deal) -> None:
    """CHAT-3: four days of correspondence."""
    d.broken("CHAT-3", reach(d, "messaging") + 72 * HOUR)
    exchange(d, 2)
    d.at(max(d.t, day_time(d.entered, 4, d.rng.randint(14 * HOUR, 18 * HOUR))))
    d.message_out()
    d.pause(60, 900)
    go(d, d.rng.choice(("meeting", "deciding", "lost")))
    live(d)


@breach("CHAT-5")
def bot_task_in_chat(d: Deal) -> None:
    """CHAT-5: the bot sets a task in the correspondence."""
    reach(d, "messaging")
    d.pause(60, 600)
    task = d.task("other", add_work(d.t, 3 * HOUR), BOT)
    d.broken("CHAT-5", d.t - 1, task)
    live(d)


@breach("CHAT-6", days=5)
def bot_task_after_chat(d: Deal) -> None:
    """CHAT-6: after a correspondence the bot sets a task."""
    after_chat(d)
    d.pause(60, 600)
    task = d.task("other", work_moment(d, 1), BOT)
    d.broken("CHAT-6", d.t - 1, task)
    live(d)


@breach("CHAT-6", days=5)
def bot_message_after_chat(d: Deal) -> None:
    """CHAT-6: after a correspondence the bot writes to the client."""
    after_chat(d)
    d.pause(60, 600)
    d.message_in()
    d.pause(2, 10)
    d.broken("CHAT-6", d.message_out(by=BOT))
    d.work(300, HOUR)
    d.message_out()
    live(d)


@breach("CHAT-6", days=5)
def bot_moves_after_chat(d: Deal) -> None:
    """CHAT-6: after a correspondence the bot moves the deal."""
    after_chat(d)
    d.work(HOUR, 2 * HOUR)
    d.broken("CHAT-6", go(d, "meeting", by=BOT))
    live(d)


@breach("CHAT-6", "CHAT-11", days=5)
def bot_scenario_after_chat(d: Deal) -> None:
    """CHAT-6, CHAT-11: after a correspondence Salesbot runs a scenario."""
    after_chat(d)
    d.pause(60, 600)
    chosen = d.scenario("meeting", BOT)
    d.broken("CHAT-6", chosen)
    d.broken("CHAT-11", chosen)
    live(d)


@breach("CHAT-11", days=5, weight=2)
def scenario_after_chat(d: Deal) -> None:
    """CHAT-11: after a correspondence the manager chooses a scenario."""
    after_chat(d)
    d.pause(60, 600)
    d.broken("CHAT-11", d.scenario("meeting"))
    live(d)


@breach("CHAT-10", weight=2)
def scenario_in_chat(d: Deal) -> None:
    """CHAT-10: in the correspondence the manager chooses a scenario."""
    reach(d, "messaging")
    exchange(d)
    d.pause(60, 300)
    d.broken("CHAT-10", d.scenario("meeting"))
    live(d)


@edge("CHAT-7")
def comment_after_chat(d: Deal, late: int) -> None:
    """CHAT-7: the agreements are written down, at the latest a minute after leaving the correspondence."""
    reach(d, "messaging")
    exchange(d)
    go(d, "deciding", skip={"comment"}, stay=True)
    d.comment(at=d.entered + 60 + late)
    d.edge(late, "CHAT-7", d.entered + 60)
    settle(d)
    live(d)


@breach("CHAT-7", weight=3)
def silent_after_chat(d: Deal) -> None:
    """CHAT-7: nothing of the correspondence is written down."""
    reach(d, "messaging")
    exchange(d)
    go(d, d.rng.choice(("meeting", "deciding", "lost")), skip={"comment"}, stay=True)
    d.broken("CHAT-7", d.entered + 60)
    settle(d)
    d.at(max(d.t, d.entered + 65))
    live(d)


@edge("CHAT-8")
def contact_before_chat(d: Deal, late: int) -> None:
    """CHAT-8: into the correspondence only with a client who was reached, at the latest a minute after the move."""
    first_touch(d, False)
    d.pause(20, 200)
    entered = go(d, "messaging", stay=True)
    d.message_in(at=entered + 60 + late)
    d.edge(late, "CHAT-8", entered + 60)
    d.at(entered + 120)
    settle(d)
    live(d)


@edge("CHAT-9")
def answer_in_chat(d: Deal, late: int) -> None:
    """CHAT-9: a client who writes is answered within nine working hours."""
    reach(d, "messaging")
    d.pause(60, 900)
    due = add_work(d.message_in(), 9 * HOUR)
    d.at(due + late)
    d.message_out()
    d.edge(late, "CHAT-9", due)
    live(d)


@breach("CHAT-9", days=4, weight=2)
def client_left_waiting(d: Deal) -> None:
    """CHAT-9: the client writes twice and waits for more than a working day."""
    reach(d, "messaging")
    d.pause(60, 900)
    d.broken("CHAT-9", add_work(d.message_in(), 9 * HOUR))
    d.pause(60, 900)
    d.message_in()
    d.work(11 * HOUR, 14 * HOUR)
    d.message_out()
    d.pause(60, 300)
    go(d, "meeting")
    live(d)


@edge("CHAT-9E")
def first_word_in_chat(d: Deal, late: int) -> None:
    """CHAT-9E: in the correspondence the manager writes or calls within nine working hours of entering."""
    entered = reach(d, "messaging", skip={"message"})
    due = add_work(entered, 9 * HOUR)
    d.at(due + late)
    d.message_out() if d.rng.random() < .5 else d.call_out(True)
    d.edge(late, "CHAT-9E", due)
    live(d)


# ------------------------------------------------------------------------------------ DEC

@edge("DEC-1")
def contact_before_deciding(d: Deal, late: int) -> None:
    """DEC-1: «Принимает решение» only after a dialogue, at the latest a minute after the move."""
    first_touch(d, False)
    d.pause(20, 200)
    entered = go(d, "deciding", stay=True)
    d.at(entered + 60 + late)
    d.call_out(True, seconds=70)
    d.edge(late, "DEC-1", entered + 60)
    settle(d)
    live(d)


@edge("DEC-3")
def task_in_deciding(d: Deal, late: int) -> None:
    """DEC-3: never without a task for more than five minutes."""
    entered = reach(d, "deciding", skip={"task"}, stay=True)
    d.at(entered + 300 + late)
    d.task("other", work_moment(d, 1))
    d.edge(late, "DEC-3", entered + 300)
    live(d)


@breach("DEC-3", weight=5)
def deciding_without_task(d: Deal) -> None:
    """DEC-3: the task is closed after the call and the next one forgotten for hours."""
    reach(d, "deciding")
    task = d.open[-1]
    d.at(next_open(d.due(task) - 600))
    d.call_out(True)
    d.pause(10, 60)
    d.broken("DEC-3", d.done(task) + 300)
    d.work(HOUR, 5 * HOUR)
    d.task("other", work_moment(d, 1))
    live(d)


@edge("DEC-4", days=5)
def return_in_time(d: Deal, late: int) -> None:
    """DEC-4: the manager comes back to the client by the task's time, at the latest a working hour after it."""
    reach(d, "deciding")
    task = d.open[-1]
    due = add_work(d.due(task), HOUR)
    d.at(due + late)
    d.call_out(True)
    d.edge(late, "DEC-4", due, task if late else None)
    d.pause(20, 200)
    go(d, "meeting")
    live(d)


@breach("DEC-4", days=6, weight=4)
def client_not_called_back(d: Deal) -> None:
    """DEC-4: the promised call is not made that day."""
    reach(d, "deciding")
    task = d.open[-1]
    d.broken("DEC-4", add_work(d.due(task), HOUR), task)
    d.at(add_work(d.due(task), HOUR))
    d.work(3 * HOUR, 12 * HOUR)
    d.call_out(True)
    d.pause(20, 200)
    go(d, d.rng.choice(("meeting", "lost", "contract")))
    live(d)


@edge("DEC-4", days=6)
def put_off_and_returned(d: Deal, late: int) -> None:
    """DEC-4: the task was put off by a day, and so was the duty."""
    reach(d, "deciding")
    task = d.open[-1]
    d.pause(600, 3000)
    d.put_off(task, d.due(task) + DAY)
    due = add_work(d.due(task), HOUR)
    d.at(due + late)
    d.call_out(True)
    d.edge(late, "DEC-4", due, task if late else None)
    d.pause(20, 200)
    go(d, "contract")
    live(d)


@edge("DEC-5")
def bot_writes_to_deciding(d: Deal, late: int) -> None:
    """DEC-5: the bot only records, it does not write: 15 seconds after the client it is the bot, 16 a person."""
    reach(d, "deciding")
    d.pause(300, 2000)
    came = d.message_in()
    d.at(came + 16 - late)
    answered = d.message_out(by=BOT)
    if late:
        d.broken("DEC-5", answered)
    else:
        d.kept("DEC-5", answered, answered)
    live(d)


@edge("DEC-6")
def reason_for_the_pause(d: Deal, late: int) -> None:
    """DEC-6: the reason of the pause is written down within 15 minutes."""
    entered = reach(d, "deciding", skip={"comment", "pause"})
    d.at(entered + 900 + late)
    d.comment() if d.rng.random() < .5 else d.set("pause_reason", "Ждёт зарплату")
    d.edge(late, "DEC-6", entered + 900)
    live(d)


@breach("DEC-6", weight=4)
def pause_without_reason(d: Deal) -> None:
    """DEC-6: nobody wrote why the client waits."""
    d.broken("DEC-6", reach(d, "deciding", skip={"comment", "pause"}) + 900)
    d.at(d.entered + 1000)
    live(d)


@edge("DEC-8", days=16)
def two_weeks_in_deciding(d: Deal, late: int) -> None:
    """DEC-8: not a stage to stay in: two weeks at most."""
    entered = reach(d, "deciding")
    due = entered + 14 * DAY
    while True:
        task = d.open[-1]
        d.at(d.due(task) - 600)
        d.call_out(True)
        d.pause(10, 60)
        following = day_time(d.t, 3, 12 * HOUR)
        if following > due - HOUR:
            break
        d.task("other", following)
        d.pause(5, 30)
        d.done(task)
    d.task("other", due + DAY)
    d.pause(5, 30)
    d.done(task)
    d.at(due - 600)
    go(d, "meeting", at=due + late)
    d.edge(late, "DEC-8", due)
    live(d)
