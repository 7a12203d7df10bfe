"""Stories of orderly managers, and the account's oddities that break nothing."""

import school
from catalogue import honest
from deal import BOT, Deal
from habits import appear, bot_gives_up, first_touch, go, live, missed_touch, no_answer_again, request_task
from world import Thing
from worktime import DAY, HOUR, MINUTE, day_time, midnight

EXTRAS = ("category", "branch", "utm_source", "score", "novelty", "extras")


def _prefilled(d: Deal) -> tuple:
    return (*(("lead_date",) if d.rng.random() < .5 else ()), *d.rng.sample(EXTRAS, d.rng.randint(0, 3)))


@honest(weight=40)
def form(d: Deal) -> None:
    """A form on the site; everything in order."""
    appear(d, unsorted=d.rng.random() < .25, source=77001, prefilled=_prefilled(d))
    live(d)


@honest(weight=12)
def distributed(d: Deal) -> None:
    """The lead comes to the head of sales, who gives it to a manager."""
    appear(d, source=77002, prefilled=_prefilled(d), distributor=school.CHIEF)
    d.pause(5, 90)
    d.hand_over(d.manager, BOT)
    live(d)


@honest(weight=14)
def called_in(d: Deal) -> None:
    """The client calls, the manager answers, the telephony makes the lead."""
    d.working()
    d.create(source=77004, channel="answered_call", prefilled=_prefilled(d))
    request_task(d)
    d.call_in(True, seconds=d.rng.randint(60, 500), on_contact=False)
    live(d)


@honest(weight=6)
def called_in_missed(d: Deal) -> None:
    """The client calls and nobody answers; called back in time."""
    d.create(source=77004, prefilled=_prefilled(d))
    d.call_in(False, on_contact=False)
    request_task(d)
    live(d)


@honest(weight=26)
def chat(d: Deal) -> None:
    """The client writes; the bot greets, the manager answers by hand."""
    d.create(source=77003, channel="chat", prefilled=_prefilled(d))
    d.message_in()
    d.pause(1, 4)
    request_task(d)
    if d.rng.random() < .6:
        d.pause(1, 5)
        d.message_out(by=BOT)
    if d.rng.random() < .2:
        d.pause(1, 5)
        d.robot_replied()
    live(d)


@honest(weight=4)
def handed_over(d: Deal) -> None:
    """Another manager takes the deal over on the way."""
    appear(d, prefilled=_prefilled(d))
    first_touch(d, True)
    go(d, d.rng.choice(("deciding", "meeting")))
    d.pause(60, 900)
    d.hand_over(d.rng.choice(school.MANAGERS[:6]))
    live(d)


@honest(weight=3)
def four_misses(d: Deal) -> None:
    """Four misses with a message after the first: the bot closes the deal."""
    appear(d, prefilled=_prefilled(d))
    first_touch(d, False)
    d.work(10, 300)
    go(d, "no_answer")
    for touch in (2, 3, 4):
        missed_touch(d)
        d.work(20, 900)
        if touch < 4:
            no_answer_again(d)
    bot_gives_up(d)


@honest(weight=2)
def slip_of_the_mouse(d: Deal) -> None:
    """Dragged into a wrong stage and back within the minute: did not happen."""
    appear(d, prefilled=_prefilled(d))
    first_touch(d, True)
    go(d, "deciding")
    d.pause(600, 2000)
    d.move(d.rng.choice(("won", "in_work", "lost")))
    d.pause(3, 40)
    d.move("deciding")
    d.visited = [stage for stage in d.visited if stage in ("new", "deciding")]
    live(d)


@honest(weight=3)
def postponed_for_months(d: Deal) -> None:
    """«Позвоните осенью»: the return date is far ahead, the task stands."""
    appear(d, prefilled=_prefilled(d))
    first_touch(d, True)
    d.set("return_on", midnight(d.t) + 150 * DAY)
    go(d, "deferred", skip={"return"})


@honest(weight=2, copies=5)
def deleted(d: Deal) -> None:
    """A double, deleted by the head of sales before anything could be broken."""
    appear(d)
    d.pause(20, 240)
    d.call_out(True, on_contact=False)
    d.pause(5, 60)
    d.delete()


@honest(weight=3, copies=6)
def corporate(d: Deal) -> None:
    """The other pipeline: kept, not judged.  Nobody there follows this regulation."""
    d.create(pipeline=school.CORPORATE, status=62000010, source=77001, by=d.manager.id)
    for status in d.rng.sample((62000011, 62000012, school.WON, school.LOST, 62000010), 3):
        d.pause(3 * HOUR, 3 * DAY)
        d.working()
        if status != d.status:
            d.move_status(status, pipeline=school.CORPORATE)
    d.task("other", d.t + DAY)
    company = Thing("company")
    note = Thing("note", type="common", of=company, by=d.manager.id, params={"text": "ИНН и реквизиты в письме"},
                 responsible=d.manager.id, at=d.t)
    d.world.record(d.t, company)
    d.world.record(d.t, note, updated_at=d.t)
    d.world.event(d.t, "common_note_added", company, d.manager.id, [{"note": note}])


@honest(weight=1, copies=2)
def old_client(d: Deal) -> None:
    """The contact has an older, closed deal in the other pipeline; calls hang on the contact."""
    older = Deal(d.world, d.rng, d.manager, d.t)
    older.contact = d.contact
    older.lead.fixed["contact"] = d.contact
    older.create(pipeline=school.CORPORATE, status=62000010)
    older.pause(30, 90)
    older.move_status(school.LOST, BOT, pipeline=school.CORPORATE)
    d.t = older.t + 600
    appear(d)
    first_touch(d, True)
    live(d)


@honest(weight=1, copies=2)
def long_note(d: Deal) -> None:
    """64 kB of text with emoji in a comment."""
    appear(d)
    first_touch(d, True)
    d.pause(10, 100)
    d.comment(text=("Переписка из мессенджера 🚗💬\n" * 1500)[:40000])
    d.pause(10, 100)
    go(d, "deciding")
    live(d)


@honest(weight=2, copies=3)
def sprinkled(d: Deal) -> None:
    """Events the regulation does not know: tags, price, names, mail, things nobody has heard of."""
    appear(d, prefilled=EXTRAS)
    d.noise("entity_tag_added", d.manager.id, [{"tag": {"name": "акция"}}])
    d.noise("sale_field_changed", d.manager.id, [{"sale_field_value": {"sale": 35000}}], [{"sale_field_value": {"sale": 28000}}])
    d.noise("name_field_changed", d.manager.id, [{"name_field_value": {"name": "Права B"}}])
    d.noise("intent_identified", 0, [{"helpbot": {"id": 33}}])
    d.noise("hologram_projected", 0, [{"hologram": {"id": "ж", "nested": {"a": [1, None]}}}])
    d.noise("incoming_mail", 0, [{"note": {"id": 4000001}}])
    d.robot_replied()
    d.service_note()
    d.set("category", "C")
    live(d)


@honest(weight=0, copies=1, day=0, hours=(0.0, 0.01))
def first_message(d: Deal) -> None:
    """The first story of all: from its messages on the messenger is known to be connected."""
    chat(d)


@honest(weight=2, copies=3)
def put_off_and_met(d: Deal) -> None:
    """A task's due moment moves, and the duty with it."""
    appear(d)
    first_touch(d, True)
    go(d, "deciding", skip={"task"})
    task = d.task("other", day_time(d.t, 1, 12 * HOUR))
    d.at(day_time(d.t, 1, 11 * HOUR))
    d.put_off(task, day_time(d.t, 1, 15 * HOUR))
    d.at(d.due(task) + 40 * MINUTE)
    d.call_out(True)
    d.pause(20, 90)
    go(d, "meeting")
    live(d)
