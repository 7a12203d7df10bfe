"""The table of stories.

A story is a function of a `Deal`; its docstring says which clause it keeps or breaks.  `@edge` makes two stories of
one: told with late = 0 the rule is kept at its due second, with late = 1 it is broken by one second.
"""

from dataclasses import dataclass
from typing import Callable, Optional

from habits import appear

HONEST, BREACH, EDGE = "honest", "breach", "edge"


@dataclass(frozen=True)
class Story:
    name: str
    tell: Callable
    kind: str
    why: str
    rules: tuple = ()                       # what it means to break
    days: int = 3                           # days it needs until its last declared breach
    hours: Optional[tuple] = (9.2, 18.5)    # local hours in which the lead comes; None: as leads come in life
    weight: float = 1.0                     # among its kind, when the rest of the population is drawn
    copies: int = 3                         # told at least so often
    late: Optional[int] = None
    day: Optional[int] = None               # all copies on this day
    prelude: bool = True                    # the lead has come in and has its task when the story begins


STORIES: list[Story] = []


def _add(function: Callable, tell: Callable, suffix: str, kind: str, **options) -> None:
    why = " ".join((function.__doc__ or function.__name__).split())
    STORIES.append(Story(function.__name__ + suffix, tell, kind, why, **options))


def honest(**options):
    """A story that breaks nothing."""
    def register(function):
        _add(function, function, "", HONEST, **{"hours": None, "copies": 0, "prelude": False, "days": 1, **options})
        return function
    return register


def breach(*rules: str, **options):
    """A story that breaks these rules."""
    def register(function):
        _add(function, function, "", BREACH, rules=rules, **options)
        return function
    return register


def edge(*rules: str, **options):
    """Two stories: these rules kept at the last second, and broken by one."""
    def register(function):
        for late, suffix in ((0, "/kept"), (1, "/late")):
            _add(function, lambda d, late=late: function(d, late), suffix, EDGE,
                 **{"rules": rules if late else (), "late": late, **options})
        return function
    return register


def begin(story: Story, d) -> None:
    """Tell one story of one deal."""
    d.why = story.why
    if story.prelude:
        appear(d, prefilled=("lead_date", "utm_source") if d.rng.random() < .3 else ("utm_source",),
               unsorted=d.rng.random() < .2)
    story.tell(d)
