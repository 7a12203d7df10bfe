"""Who lives which story, when, and with which manager: the whole history, from a seed."""

from random import Random

import breaks_chat
import breaks_final
import breaks_late
import breaks_miss
import breaks_new
import honest
import checklist
import school
from catalogue import EDGE, HONEST, STORIES, Story, begin
from deal import Deal
from world import World
from worktime import DAY, HOUR

TOLD_IN = (honest, breaks_new, breaks_miss, breaks_chat, breaks_late, breaks_final)

HONEST_SHARE = .75

#: leads by hour of the day: few at night, most at noon and in the evening
BY_HOUR = (2, 1, 1, 1, 1, 1, 2, 5, 11, 20, 26, 28, 30, 27, 26, 25, 24, 24, 25, 24, 20, 15, 9, 5)
BY_WEEKDAY = (1.15, 1.1, 1.05, 1.0, 1.0, .7, .6)            # Monday first


def keeps(story: Story) -> bool:
    return story.kind == HONEST or story.kind == EDGE and not story.late


def plan(rng: Random, deals: int, days: int) -> list[Story]:
    """Every story at least `copies` times, then chance, so that three deals of four are in order."""
    groups = [story for story in STORIES if story.weight == 0 and (story.day == 0 or deals >= 200 and days > story.day + 1)]
    chosen = [story for story in groups for _ in range(story.copies)]
    most = max(story.copies for story in STORIES)
    for copy in range(most):
        chosen += [story for story in STORIES if story.weight and copy < story.copies]
    first, chosen = chosen[:deals], chosen[deals:]
    others = [story for story in STORIES if story.weight]
    honest_ones = [story for story in others if story.kind == HONEST]
    breaking = [story for story in others if not keeps(story)]
    missing = deals - len(first)
    lacking = min(missing, max(0, round(deals * HONEST_SHARE) - sum(map(keeps, first))))
    first += rng.choices(honest_ones, [story.weight for story in honest_ones], k=lacking)
    first += rng.choices(breaking, [story.weight for story in breaking], k=missing - lacking)
    return first


def birth(rng: Random, story: Story, start: int, days: int) -> int:
    """When the lead comes; early enough for what the story declares."""
    last = max(1, days - story.days)
    if story.day is not None:
        day = story.day
    else:
        weekdays = [BY_WEEKDAY[((start + 3 * HOUR) // DAY + n + 3) % 7] for n in range(last)]
        day = rng.choices(range(last), weekdays)[0]
    if story.hours:
        second = rng.randint(int(story.hours[0] * HOUR), int(story.hours[1] * HOUR))
    else:
        second = rng.choices(range(24), BY_HOUR)[0] * HOUR + rng.randrange(HOUR)
    return start + day * DAY + (second if story.day == 0 else max(second, 60))


def manager_for(rng: Random, story: Story) -> school.User:
    weights = [.6 + user.discipline if keeps(story) else 1.05 - user.discipline for user in school.MANAGERS]
    return rng.choices(school.MANAGERS, weights)[0]


def history(seed: int, start: int, days: int, deals: int, whole_checklist: bool = False) -> World:
    """`start` is a local midnight; the simulated now is ten minutes before the last midnight."""
    end = start + days * DAY - 600
    world = World(seed, start, end, end + 7 * DAY)
    rng = Random(f"{seed}/population")
    for number, story in enumerate(plan(rng, deals, days)):
        born = birth(rng, story, start, days)
        deal = Deal(world, Random(f"{seed}/{number}/{story.name}"), manager_for(rng, story), born)
        world.told.append((deal.lead, story.name))
        try:
            begin(story, deal)
        except Exception as failure:
            raise RuntimeError(f"story {story.name}, deal {number}, seed {seed}") from failure
    if whole_checklist:
        checklist.tell(world, start)
    world.finish()
    return world
