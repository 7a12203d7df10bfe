"""Breaches of «Встреча назначена», «Онлайн договор» and «Отложенный спрос»."""

from catalogue import breach, edge
from deal import BOT, Deal
from habits import confirm_meeting, first_touch, go, live, reach, settle, work_moment
from worktime import DAY, HOUR, add_work, day_time, midnight


def meet_at(d: Deal, days: int, seconds: int) -> int:
    """A meeting is agreed before the deal enters the stage."""
    meeting = day_time(d.t, days, seconds)
    d.set("meeting_at", meeting)
    d.pause(5, 30)
    return meeting


# ------------------------------------------------------------------------------------ MEET

@edge("MEET-1")
def meeting_has_a_date(d: Deal, late: int) -> None:
    """MEET-1: date and time of the meeting are there, at the latest a minute after entering."""
    entered = reach(d, "meeting", skip={"meeting"}, stay=True)
    d.at(entered + 60 + late)
    d.set("meeting_at", day_time(d.t, 1, 15 * HOUR))
    d.edge(late, "MEET-1", entered + 60)
    settle(d)
    live(d)


@breach("MEET-1", weight=3)
def meeting_without_a_date(d: Deal) -> None:
    """MEET-1: a meeting without date and time for an hour."""
    entered = reach(d, "meeting", skip={"meeting"}, stay=True)
    d.broken("MEET-1", entered + 60)
    settle(d)
    d.work(HOUR, 2 * HOUR)
    d.set("meeting_at", day_time(d.t, 1, 15 * HOUR))
    live(d)


@edge("MEET-2")
def control_task_of_meeting(d: Deal, late: int) -> None:
    """MEET-2: the task «Контроль встречи» is there, five minutes after entering at the latest."""
    entered = reach(d, "meeting", stay=True)
    d.at(entered + 300 + late)
    d.task("meeting_control", d.fields["meeting_at"] - HOUR)
    d.edge(late, "MEET-2", entered + 300)
    live(d)


@breach("MEET-2", weight=3)
def meeting_without_control(d: Deal) -> None:
    """MEET-2: a meeting nobody controls; some other task is there."""
    entered = reach(d, "meeting", skip={"task"})
    d.broken("MEET-2", entered + 300)
    d.pause(60, 200)
    d.task("other", work_moment(d, 1))
    live(d)


@edge("MEET-4", days=4)
def contact_before_meeting(d: Deal, late: int) -> None:
    """MEET-4: the manager contacts the client before the meeting."""
    first_touch(d, True)
    d.pause(20, 100)
    meeting = meet_at(d, 1, 14 * HOUR)
    go(d, "meeting", skip={"meeting"})
    d.at(meeting + late)
    d.call_out(d.rng.random() < .5)
    d.edge(late, "MEET-4", meeting)
    d.pause(600, 1800)
    go(d, "deciding")
    live(d)


@breach("MEET-4", days=5, weight=4)
def meeting_not_confirmed(d: Deal) -> None:
    """MEET-4: nobody called before the meeting."""
    reach(d, "meeting")
    meeting = d.fields["meeting_at"]
    d.broken("MEET-4", meeting)
    d.at(meeting + d.rng.randint(1800, 4000))
    go(d, d.rng.choice(("deciding", "contract", "won", "lost")))
    live(d)


@edge("MEET-4")
def meeting_in_three_hours(d: Deal, late: int) -> None:
    """MEET-4: a meeting under three hours ahead needs no second contact; one in three hours does."""
    first_touch(d, True)
    d.pause(20, 100)
    entered = d.t + 200
    meeting = entered + 3 * HOUR - 1 + late
    d.set("meeting_at", meeting)
    go(d, "meeting", skip={"meeting"}, at=entered)
    d.edge(late, "MEET-4", meeting)
    d.at(meeting + 1800)
    go(d, "contract")
    live(d)


@edge("MEET-5", days=5)
def after_the_meeting(d: Deal, late: int) -> None:
    """MEET-5: after the meeting the deal goes on, within nine working hours."""
    reach(d, "meeting")
    confirm_meeting(d)
    due = add_work(d.fields["meeting_at"], 9 * HOUR)
    d.at(due - 900)
    go(d, "deciding", at=due + late)
    d.edge(late, "MEET-5", due)
    live(d)


@edge("MEET-5", days=5)
def meeting_set_anew(d: Deal, late: int) -> None:
    """MEET-5: or a new meeting is agreed, within nine working hours."""
    reach(d, "meeting")
    confirm_meeting(d)
    due = add_work(d.fields["meeting_at"], 9 * HOUR)
    d.at(due + late)
    d.set("meeting_at", day_time(d.t, 2, 15 * HOUR))
    d.edge(late, "MEET-5", due)
    d.pause(5, 60)
    d.task("meeting_control", d.fields["meeting_at"] - 2 * HOUR)
    live(d)


@breach("MEET-5", days=6, weight=3)
def meeting_long_past(d: Deal) -> None:
    """MEET-5: the meeting is days ago and the deal still waits for it."""
    reach(d, "meeting")
    confirm_meeting(d)
    d.broken("MEET-5", add_work(d.fields["meeting_at"], 9 * HOUR))
    d.at(d.fields["meeting_at"])
    d.work(14 * HOUR, 20 * HOUR)
    d.call_out(True)
    d.pause(60, 300)
    go(d, d.rng.choice(("deciding", "lost", "contract")))
    live(d)


@edge("MEET-5E", days=6)
def entered_after_the_meeting(d: Deal, late: int) -> None:
    """MEET-5E: entered with a meeting already past: on within nine working hours."""
    reach(d, "meeting")
    confirm_meeting(d)
    d.at(d.fields["meeting_at"] + 1800)
    go(d, "contract")
    d.work(HOUR, 2 * HOUR)
    entered = go(d, "meeting", skip={"meeting", "task"})
    due = add_work(entered, 9 * HOUR)
    d.at(due - 900)
    go(d, "contract", at=due + late)
    d.edge(late, "MEET-5E", due)
    live(d)


@edge("MEET-7")
def contact_before_arranging(d: Deal, late: int) -> None:
    """MEET-7: a meeting is agreed with a client one has spoken to, at the latest a minute after the move."""
    first_touch(d, False)
    d.pause(20, 200)
    entered = go(d, "meeting", stay=True)
    d.at(entered + 60 + late)
    d.call_out(True, seconds=90)
    d.edge(late, "MEET-7", entered + 60)
    settle(d)
    live(d)


# ------------------------------------------------------------------------------------ ONC

@edge("ONC-1")
def consent_before_contract(d: Deal, late: int) -> None:
    """ONC-1: the client's consent is recorded, at the latest a minute after entering."""
    reach(d, "deciding", skip={"comment"})
    d.work(HOUR, 2 * HOUR)
    d.call_out(True)
    d.pause(20, 60)
    entered = go(d, "contract", skip={"comment", "agreed"}, stay=True)
    d.comment(at=entered + 60 + late) if d.rng.random() < .5 else d.set("agreed_at", True, at=entered + 60 + late)
    d.edge(late, "ONC-1", entered + 60)
    settle(d)
    d.at(max(d.t, entered + 90))
    live(d)


@breach("ONC-1", weight=2)
def contract_without_consent(d: Deal) -> None:
    """ONC-1: no trace of the client's consent."""
    reach(d, "deciding", skip={"comment"})
    d.work(HOUR, 2 * HOUR)
    d.call_out(True)
    d.pause(20, 60)
    d.broken("ONC-1", go(d, "contract", skip={"comment", "agreed"}) + 60)
    live(d)


@edge("ONC-2")
def control_task_of_contract(d: Deal, late: int) -> None:
    """ONC-2: the task that controls the contract is there, five minutes after entering at the latest."""
    entered = reach(d, "contract", stay=True)
    d.at(entered + 300 + late)
    d.task("contract_control", work_moment(d, 1))
    d.edge(late, "ONC-2", entered + 300)
    d.pause(300, 3000)
    d.message_out()
    live(d)


@breach("ONC-2", weight=3)
def contract_without_control(d: Deal) -> None:
    """ONC-2: no task controls the contract."""
    d.broken("ONC-2", reach(d, "contract", skip={"task"}) + 300)
    live(d)


@edge("ONC-4", days=6)
def contract_in_motion(d: Deal, late: int) -> None:
    """ONC-4: a contract does not hang: something happens every 27 working hours."""
    reach(d, "contract")
    due = add_work(d.t - 1, 27 * HOUR)              # the message was the last thing that happened
    d.at(due + late)
    d.call_out(True)
    d.edge(late, "ONC-4", due)
    live(d)


@breach("ONC-4", days=8, weight=3)
def contract_hangs(d: Deal) -> None:
    """ONC-4: nothing happens for days."""
    reach(d, "contract")
    d.broken("ONC-4", add_work(d.t - 1, 27 * HOUR))
    d.work(30 * HOUR, 45 * HOUR)
    d.call_out(True)
    d.pause(20, 100)
    live(d)


@edge("ONC-5", days=4)
def signed_paid_closed(d: Deal, late: int) -> None:
    """ONC-5: signed and paid: into the final stage within nine working hours."""
    reach(d, "contract")
    d.work(HOUR, 2 * HOUR)
    d.set("signed_at", d.t)
    d.pause(60, 600)
    due = add_work(d.set("paid_at", True), 9 * HOUR)
    d.at(due - 300)
    go(d, "won", at=due + late)
    d.edge(late, "ONC-5", due)
    live(d)


@breach("ONC-5", days=5, weight=2)
def paid_and_forgotten(d: Deal) -> None:
    """ONC-5: paid, signed, and not closed."""
    reach(d, "contract")
    d.work(HOUR, 2 * HOUR)
    d.set("paid_at", True)
    d.pause(60, 600)
    d.broken("ONC-5", add_work(d.set("signed_at", d.t), 9 * HOUR))
    d.work(11 * HOUR, 20 * HOUR)
    go(d, "won")


@edge("ONC-6")
def contract_sent(d: Deal, late: int) -> None:
    """ONC-6: the contract is sent within nine working hours."""
    entered = reach(d, "contract", skip={"message"})
    due = add_work(entered, 9 * HOUR)
    d.at(due + late)
    d.message_out()
    d.edge(late, "ONC-6", due)
    live(d)


@breach("ONC-6", days=4)
def contract_never_sent(d: Deal) -> None:
    """ONC-6: called, but no contract sent on the first day."""
    d.broken("ONC-6", add_work(reach(d, "contract", skip={"message"}), 9 * HOUR))
    d.work(10 * HOUR, 12 * HOUR)
    d.call_out(True)
    d.pause(20, 100)
    live(d)


@edge("ONC-7")
def contact_before_contract(d: Deal, late: int) -> None:
    """ONC-7: a contract is for a client one has spoken to, at the latest a minute after the move."""
    first_touch(d, False)
    d.pause(20, 200)
    entered = go(d, "contract", stay=True)
    d.at(entered + 60 + late)
    d.call_out(True, seconds=90)
    d.edge(late, "ONC-7", entered + 60)
    settle(d)
    live(d)


# ------------------------------------------------------------------------------------ DEF

@edge("DEF-2")
def return_date_emptied(d: Deal, late: int) -> None:
    """DEF-2: the return date is always there; emptied for a minute is forgiven."""
    reach(d, "deferred")
    d.pause(60, 600)
    emptied = d.set("return_on", None)
    d.at(emptied + 60 + late)
    d.set("return_on", midnight(d.t) + 5 * DAY)
    d.edge(late, "DEF-2", emptied + 60)
    live(d)


@edge("DEF-2", "DEF-2P")
def return_date_with_the_move(d: Deal, late: int) -> None:
    """DEF-2, DEF-2P: the return date is fixed, at the latest a minute after entering."""
    entered = reach(d, "deferred", skip={"return"}, stay=True)
    d.at(entered + 60 + late)
    d.set("return_on", midnight(d.t) + 4 * DAY)
    d.edge(late, "DEF-2", entered + 60)
    d.edge(late, "DEF-2P", entered + 60)
    settle(d)
    live(d)


@edge("DEF-2P")
def return_date_ahead(d: Deal, late: int) -> None:
    """DEF-2P: the return date lies ahead; today's is put right within a minute."""
    first_touch(d, True)
    d.pause(20, 60)
    d.set("return_on", midnight(d.t))
    entered = go(d, "deferred", skip={"return"}, stay=True)
    d.at(entered + 60 + late)
    d.set("return_on", midnight(d.t) + 4 * DAY)
    d.edge(late, "DEF-2P", entered + 60)
    settle(d)
    live(d)


@breach("DEF-2", "DEF-2P", weight=2)
def deferred_without_date(d: Deal) -> None:
    """DEF-2, DEF-2P: «потом», without a date."""
    entered = reach(d, "deferred", skip={"return"})
    d.broken("DEF-2", entered + 60)
    d.broken("DEF-2P", entered + 60)
    d.pause(600, 1800)
    d.set("return_on", midnight(d.t) + d.rng.randint(2, 6) * DAY)
    live(d)


@breach("DEF-3")
def bot_task_in_deferred(d: Deal) -> None:
    """DEF-3: tasks of deferred deals are set by hand, not by the bot."""
    reach(d, "deferred", skip={"task"}, stay=True)
    d.pause(1, 5)
    task = d.task("other", d.fields["return_on"] + 10 * HOUR, BOT)
    d.broken("DEF-3", d.t - 1, task)
    live(d)


@edge("DEF-4")
def task_in_deferred(d: Deal, late: int) -> None:
    """DEF-4: never without a task for more than five minutes."""
    entered = reach(d, "deferred", stay=True)
    d.at(entered + 300 + late)
    d.task("other", d.fields["return_on"] + 11 * HOUR)
    d.edge(late, "DEF-4", entered + 300)
    live(d)


@breach("DEF-4", weight=3)
def deferred_without_task(d: Deal) -> None:
    """DEF-4: deferred and forgotten, no task."""
    d.broken("DEF-4", reach(d, "deferred", skip={"task"}) + 300)
    live(d)


@edge("DEF-5", days=5)
def return_on_the_day(d: Deal, late: int) -> None:
    """DEF-5: on the day of the return the manager contacts the client, by 18:00."""
    first_touch(d, True)
    d.pause(20, 60)
    back = midnight(d.t) + 3 * DAY
    d.set("return_on", back)
    go(d, "deferred", skip={"return"})
    d.at(back + 18 * HOUR + late)
    d.call_out(True)
    d.edge(late, "DEF-5", back + 18 * HOUR)
    d.pause(20, 200)
    go(d, "meeting")
    live(d)


@breach("DEF-5", days=6, weight=4)
def return_missed(d: Deal) -> None:
    """DEF-5: the day of the return passes without a call."""
    first_touch(d, True)
    d.pause(20, 60)
    back = midnight(d.t) + d.rng.randint(2, 4) * DAY
    d.set("return_on", back)
    go(d, "deferred", skip={"return"})
    d.broken("DEF-5", back + 18 * HOUR)
    d.at(back + DAY + d.rng.randint(10 * HOUR, 18 * HOUR))
    d.call_out(True)
    d.pause(20, 200)
    go(d, d.rng.choice(("meeting", "lost", "deciding")))
    live(d)


@edge("DEF-7")
def contact_before_deferring(d: Deal, late: int) -> None:
    """DEF-7: deferred by the client's own word, at the latest a minute after the move."""
    first_touch(d, False)
    d.pause(20, 200)
    entered = go(d, "deferred", stay=True)
    d.at(entered + 60 + late)
    d.call_out(True, seconds=90)
    d.edge(late, "DEF-7", entered + 60)
    settle(d)
    live(d)


@edge("DEF-8", days=3)
def return_date_moved_alone(d: Deal, late: int) -> None:
    """DEF-8: the return date is not moved without asking the client, but for the first hour."""
    entered = reach(d, "deferred")
    d.at(entered + 3600 + late)
    d.set("return_on", midnight(d.t) + 6 * DAY + (d.fields["return_on"] == midnight(d.t) + 6 * DAY) * DAY)
    if late:
        d.broken("DEF-8", entered + 3601)
    else:
        d.kept("DEF-8", entered + 3600, entered + 3600)
    live(d)
