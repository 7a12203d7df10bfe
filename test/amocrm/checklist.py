"""Deals for what the stories never do: the rest of the reference's list of what an account may hold.

Told after the stories and beside them: no truth is declared for these deals, and how they are judged is nobody's
business here.  They are for comparing one sync with another.
"""

from random import Random

import school
from deal import BOT, Deal
from world import Thing, World
from worktime import DAY, HOUR

WIDGET = -1                 # how some integrations sign


def tell(world: World, start: int) -> None:
    for number, story in enumerate((same_second_moves, between_pipelines, won_and_lost_twice, calls_by_open_leads,
                                    task_done_then_deleted, merged, imported, signed_by_widget, large_and_odd)):
        rng = Random(f"{world.seed}/checklist/{number}")
        story(Deal(world, rng, school.MANAGERS[number % len(school.MANAGERS)], start + DAY + (10 + number) * HOUR))


def same_second_moves(deal: Deal) -> None:
    deal.create()
    deal.pause(60, 90)
    moment = deal.t
    deal.move("in_work", at=moment)
    deal.move("no_answer", by=BOT, at=moment)
    deal.move("in_work", at=moment)
    deal.t += 5
    deal.call_out(True)
    deal.move("deciding")
    deal.task("callback", deal.t + DAY)


def between_pipelines(deal: Deal) -> None:
    deal.create()
    deal.pause(60, 90)
    deal.move("in_work")
    for status, pipeline, before in ((62000011, school.CORPORATE, (school.SALES, deal.status)),
                                     (school.STAGES["deciding"][0], school.SALES, (school.CORPORATE, 62000011))):
        moment = deal._when(None)
        deal.world.record(moment, deal.lead, status=status, pipeline=pipeline, updated_at=moment, updated_by=deal.manager.id)
        deal.world.event(moment, "lead_status_changed", deal.lead, deal.manager.id,
                         [{"lead_status": {"id": status, "pipeline_id": pipeline}}],
                         [{"lead_status": {"id": before[1], "pipeline_id": before[0]}}])
        deal.pause(3600, 7200)


def won_and_lost_twice(deal: Deal) -> None:
    """142 and 143 in both pipelines: closed there, reopened here, closed here."""
    deal.create(stage="new", status=62000010, pipeline=school.CORPORATE)
    pipeline, before = school.CORPORATE, 62000010
    for status, there in ((school.WON, school.CORPORATE), (school.STAGES["contract"][0], school.SALES),
                          (school.LOST, school.SALES), (school.LOST, school.CORPORATE), (school.WON, school.SALES)):
        deal.pause(600, 900)
        moment = deal._when(None)
        deal.world.record(moment, deal.lead, status=status, pipeline=there, updated_at=moment, updated_by=deal.manager.id,
                          closed_at=moment if status in school.CLOSED_STATUSES else None)
        deal.world.event(moment, "lead_status_changed", deal.lead, deal.manager.id,
                         [{"lead_status": {"id": status, "pipeline_id": there}}],
                         [{"lead_status": {"id": before, "pipeline_id": pipeline}}])
        pipeline, before = there, status


def calls_by_open_leads(deal: Deal) -> None:
    """Calls on the contact with one open deal, with two, and with none."""
    deal.create()
    deal.pause(60, 90)
    deal.move("in_work")
    deal.call_out(False, on_contact=True)
    second = Deal(deal.world, Random(f"{deal.world.seed}/second"), school.MANAGERS[5], deal.t + 100)
    second.contact = deal.contact
    second.lead.fixed["contact"] = deal.contact
    second.create(source=0)
    second.t = deal.t = max(deal.t, second.t) + 10
    second.move("in_work")
    deal.call_out(True, on_contact=True)
    deal.call_in(True, on_contact=True)
    deal.t += 1000
    deal.set("lost_reason", "Дорого")
    deal.move("lost")
    second.t = deal.t + 10
    second.call_out(True, on_contact=True)
    second.t += 10
    second.set("lost_reason", "Дорого")
    second.move("lost")
    deal.t = second.t + 100
    deal.call_in(False, on_contact=True)


def task_done_then_deleted(deal: Deal) -> None:
    deal.create()
    deal.pause(60, 90)
    deal.move("in_work")
    for completed in (True, False):
        task = deal.task("callback", deal.t + DAY)
        deal.pause(600, 900)
        if completed:
            deal.done(task)
        deal.pause(600, 900)
        moment = deal._when(None)
        deal.world.record(moment, task, gone=True)
        deal.world.event(moment, "task_deleted", task, deal.manager.id)


def merged(deal: Deal) -> None:
    """The loser of a merge goes as if deleted; the event tells nothing but that there was one."""
    deal.create()
    deal.pause(60, 90)
    loser = Deal(deal.world, Random(f"{deal.world.seed}/loser"), deal.manager, deal.t + 5)
    loser.create()
    deal.t = loser.t + 60
    moment = deal._when(None)
    deal.world.event(moment, "entity_merged", deal.lead, deal.manager.id)
    deal.world.record(moment, deal.lead, updated_at=moment, updated_by=deal.manager.id)
    deal.world.record(moment, loser.lead, deleted=True, updated_at=moment, updated_by=deal.manager.id)
    deal.world.event(moment, "lead_deleted", loser.lead, deal.manager.id)
    deal.move("in_work")


def imported(deal: Deal) -> None:
    """A mass edit: moved without an event, many with one updated_at."""
    others = [deal] + [Deal(deal.world, Random(f"{deal.world.seed}/import/{n}"), deal.manager, deal.born + n) for n in range(1, 30)]
    for one in others:
        one.create()
    moment = deal.born + 5 * HOUR
    for one in others:
        one.world.record(moment, one.lead, updated_at=moment, updated_by=0, tags=(school.TAGS[0],),
                         status=school.STAGES["deciding"][0])


def signed_by_widget(deal: Deal) -> None:
    deal.create(by=WIDGET)
    deal.pause(60, 90)
    deal.move("in_work", by=WIDGET)
    deal.set("score", "12", by=WIDGET)
    deal.noise("hologram_projected", WIDGET)


def large_and_odd(deal: Deal) -> None:
    deal.create()
    deal.pause(60, 90)
    deal.set("pause_reason", "😀 строка " * 3000)
    deal.comment(text="я" * 65536)
    deal.move("in_work")
