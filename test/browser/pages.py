"""Every figure of every page of the dashboards, counted from what the deals lived.

Each page is a method of Truth, which returns

    figures  {name: value}; before {name: value of the period before}
    says     sentences with figures that must stand on the page
    tables   {name: (rows, how)}: rows are dicts by the column's key; "how" names the
             columns by which a row is found (by), those that hold words and not
             figures (words), and how near a figure must come (near)
    charts   {name: rows of [label, values …]}

SOURCES says in a word where the truth of each comes from; docs/dashboards.md shows
that table, and dashboards.mjs compares both ways: nothing on a page without a row
here, nothing here that stands on no page.
"""
from collections import Counter, defaultdict
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal

import idrive
import school
from lived import NAME_OF, day_of, local, monday, work_between

DAY, HOUR = 86400, 3600
SEVERITIES = ("critical", "major", "minor", "info")
OPEN = [s for s in idrive.STAGES if s not in idrive.OUTCOME]
STAGE_NAME = {code: title for code, (_, title) in school.STAGES.items()} | {"won": "Договор", None: "этап не из регламента"}
SEVERITY_NAME = {"critical": "критическое", "major": "серьёзное", "minor": "мелкое", "info": "к сведению"}
WHOSE = {"manager": "менеджер", "bot": "робот"}
MONTHS = "янв фев мар апр мая июн июл авг сен окт ноя дек".split()
SPREAD = (("до 5 мин", 300), ("5–10 мин", 600), ("10–15 мин", 900), ("15–30 мин", 1800), ("30–60 мин", 3600), ("1–3 ч", 10800), ("дольше 3 ч", None))
BATCH, BETWEEN = 5, 120         # tasks closed in one go, seconds from one to the next

LIVED, JUDGED, SERVED, BOOK = "lived", "judged", "served", "book"
SOURCE_WORDS = {
    LIVED: "the simulator's log of what happened, counted",
    JUDGED: "the same log, judged by test/property/oracle.py by the rules of test/browser/idrive.py",
    SERVED: "what the simulator itself counts of the requests it answered and the rows it gave out",
    BOOK: "the rules as test/browser/idrive.py writes them down",
}


def half_up(value, digits):
    """As the views round: half away from nought."""
    if value is None:
        return None
    return float(Decimal(repr(value) if isinstance(value, float) else value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def share(part, whole, digits=1):
    return None if not whole else half_up(Decimal(100 * part) / Decimal(whole), digits)


def quantile(values, of):
    """Between the two nearest, as percentile_cont."""
    values = sorted(values)
    if not values:
        return None
    place = (len(values) - 1) * of
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def spaced(n):
    return f"{n:,}".replace(",", "\u00a0")


def percent(value):
    return f"{half_up(value, 1):,.1f}".replace(",", "\u00a0").replace(".", ",") + "\u00a0%"


def moment(at):
    return None if at is None else local(at).strftime("%Y-%m-%d %H:%M:%S")


def short(day):
    return f"{day.day}\u00a0{MONTHS[day.month - 1]}"


def table(rows, by, words=(), near=None):
    return {"rows": rows, "by": list(by), "words": list(words), "near": near or {}}


class Truth:
    def __init__(self, world, leads, now, loaded):
        # of a lead that was deleted before the first load, amoCRM shows nothing
        leads = {id_: lead for id_, lead in leads.items() if lead.deleted is None or lead.deleted > loaded}
        self.now, self.leads, self.world = now, leads, world
        self.today = day_of(now)
        duties = [d for lead in leads.values() for d in lead.duties]
        self.duties = [d for d in duties if d.due is not None]
        self.breaches = sorted((d for d in duties if d.breached is not None), key=lambda d: (d.breached, d.lead.id, d.rule))
        self.at_once = [d for d in self.breaches if d.due is None]
        self.sales = [lead for lead in leads.values() if lead.pipeline == school.SALES]
        self.told = [lead for lead in self.sales if lead.deleted is None and any(to for _, _, to, _ in lead.moves())]
        self.open_deals = [lead for lead in self.told if lead.outcome() == "open"]
        self.weeks = []
        week = monday(min(lead.created for lead in leads.values()))
        while week <= self.today:
            self.weeks.append(week)
            week += timedelta(days=7)

    # ---- what several pages need ----

    def period(self, days):
        """Whether a moment is in the last so many days."""
        first = self.today - timedelta(days=days - 1)
        return lambda at: first <= day_of(at) <= self.today

    def counts(self, which=lambda d: True):
        """What became of duties: a Counter with all that a scorecard shows."""
        c = Counter()
        for d in self.duties:
            if which(d):
                c.update({"arisen": 1, d.state: 1, "critical": d.breached is not None and d.severity == "critical"})
        for d in self.at_once:
            if which(d):
                c.update({"breaches_at_once": 1, "critical": d.severity == "critical"})
        c["decided"] = c["met"] + c["late"] + c["missed"]
        c["violations"] = c["late"] + c["missed"] + c["breaches_at_once"]
        return c

    def late(self, d):
        """Wall seconds from the breach until it was put right, or so far; of what can't be undone none."""
        return None if d.resolution == "moment" else (d.resolved if d.resolved is not None else self.now) - d.breached

    def by_severity(self, breaches, label):
        rows = defaultdict(Counter)
        for d in breaches:
            rows[label(d)][d.severity] += 1
        return {key: [c[s] for s in SEVERITIES] for key, c in rows.items()}

    def weekly(self, breaches):
        found = self.by_severity(breaches, lambda d: monday(d.breached))
        return [[short(week), *found.get(week, [0] * 4)] for week in self.weeks]

    def compliance_by_week(self, which=lambda d: True):
        rows = []
        for week in self.weeks:
            c = self.counts(lambda d: not d.of_bot and monday(d.arose) == week and which(d))
            rows.append([short(week), share(c["met"], c["decided"])])
        return rows

    def breach_rows(self, breaches, who):
        rows = [{"rule": d.rule, "deal_id": d.lead.id, "breached_at": moment(d.breached), who: d.who, "deal_name": d.lead.name,
                 "severity_name": SEVERITY_NAME[d.severity], "late_seconds": self.late(d)} for d in breaches]
        return table(rows, ["deal_id", "rule", "breached_at", "late_seconds"], ["title", "deal_url"])

    def without_task(self):
        return [lead for lead in self.told if lead.outcome() == "open" and lead.stage() is not None
                and all(t.done is not None for t in lead.tasks)]

    def running(self, which=lambda d: True):
        return sorted((d for d in self.duties if d.state == "running" and which(d)), key=lambda d: d.due)

    def pages(self):
        return {"/": self.overview(), "/managers/": self.managers(), "/rules/": self.rules(), "/funnel/": self.funnel(),
                "/response/": self.response(), "/risk/": self.risk(), "/deal/": self.deal(), "/regulation/": self.regulation(),
                "/sync/": self.sync()}

    # ---- who broke what this week ----

    def overview(self, week=None):
        """Of the last seven days, or of a week (its Monday), compared with the one before."""
        if week is None:
            now = [d for d in self.breaches if d.breached > self.now - 7 * DAY]
            before = [d for d in self.breaches if self.now - 14 * DAY < d.breached <= self.now - 7 * DAY]
            days = (self.today - timedelta(days=6), self.today)
            days_before = (self.today - timedelta(days=13), self.today - timedelta(days=7))
        else:
            now = [d for d in self.breaches if monday(d.breached) == week]
            over = week + timedelta(days=7) <= self.today
            before = [d for d in self.breaches if monday(d.breached) == week - timedelta(days=7) and (over or d.breached <= self.now - 7 * DAY)]
            days = (week, week + timedelta(days=6))
            days_before = (week - timedelta(days=7), min(week - timedelta(days=1), self.today - timedelta(days=7)))
        at = lambda span: lambda d: not d.of_bot and span[0] <= day_of(d.arose) <= span[1]
        c, c_before = self.counts(at(days)), self.counts(at(days_before))
        whose = defaultdict(list)
        for d in now:
            whose[d.who, d.rule].append(d)
        was = Counter((d.who, d.rule) for d in before)
        critical = lambda some: sum(d.severity == "critical" for d in some)
        who = self.by_severity(now, lambda d: d.who)
        soon = self.running(lambda d: d.due <= self.now + 2 * HOUR)
        return {
            "figures": {"violations": len(now), "critical": critical(now), "still_open": sum(d.open for d in now),
                        "compliance": share(c["met"], c["decided"])},
            "before": {"violations": len(before), "critical": critical(before), "compliance": share(c_before["met"], c_before["decided"])},
            "says": [f"из них робота: {spaced(sum(d.of_bot for d in now))}"] * any(d.of_bot for d in now)
                    + [f"{spaced(c['met'])} из {spaced(c['decided'])} обязанностей"],
            "tables": {
                "who_what": table([{"who": name, "rule": rule, "severity_name": SEVERITY_NAME[some[0].severity], "violations": len(some),
                                    "previous_violations": was[name, rule], "deals": len({d.lead.id for d in some}),
                                    "still_open": sum(d.open for d in some)} for (name, rule), some in whose.items()],
                                  ["who", "rule"], ["title"]),
                "open_now": {**self.breach_rows([d for d in self.breaches if d.open], "who"), "not": ["breached_at"],
                             "by": ["deal_id", "rule", "late_seconds"]},
                "due_soon": table([{"rule": d.rule, "deal_id": d.lead.id, "due_at": moment(d.due), "left_seconds": d.due - self.now, "who": d.who,
                                    "deal_name": d.lead.name} for d in soon], ["deal_id", "rule", "due_at"], ["title"], {"left_seconds": 3})},
            "charts": {"who": [[name, *n] for name, n in who.items()], "by_week": self.weekly(self.breaches),
                       "compliance_by_week": self.compliance_by_week()},
        }

    # ---- managers ----

    def managers(self, days=30, manager=None):
        inside = self.period(days)
        mine = lambda d: not d.of_bot and (manager is None or d.manager == manager)
        arisen = lambda d: mine(d) and inside(d.arose)
        broken = [d for d in self.breaches if mine(d) and inside(d.breached)]
        total = self.counts(arisen)
        cards = []
        for m in sorted({d.manager for d in self.duties + self.at_once if arisen(d)}):
            c = self.counts(lambda d: arisen(d) and d.manager == m)
            cards.append({"manager_name": NAME_OF[m], "compliance": share(c["met"], c["decided"]),
                          **{k: c[k] for k in ("decided", "met", "late", "missed", "cancelled", "running", "breaches_at_once", "critical")}})
        rules = defaultdict(list)
        for d in broken:
            rules[d.rule].append(d)
        return {
            "figures": {"compliance": share(total["met"], total["decided"]), **{k: total[k] for k in ("late", "missed", "critical")}},
            "says": [f"{spaced(total['met'])} из {spaced(total['decided'])}", f"всего нарушений {spaced(total['violations'])}"],
            "tables": {
                "cards": table(cards, ["manager_name"]),
                "tidy": table(self.tidy(inside, manager), ["manager_name"]),
                "by_rule": table([{"rule": r, "severity_name": SEVERITY_NAME[some[0].severity], "violations": len(some),
                                   "deals": len({d.lead.id for d in some}), "still_open": sum(d.open for d in some)}
                                  for r, some in rules.items()], ["rule"], ["title"]),
                "listed": self.breach_rows(broken, "manager_name")},
            "charts": {"broken": [[c["manager_name"], c["late"], c["missed"]] for c in cards if c["late"] + c["missed"]],
                       "weekly": [w for w in self.compliance_by_week(mine) if w[1] is not None],
                       "weekly_violations": [w for w in self.weekly([d for d in self.breaches if mine(d)]) if any(w[1:])]},
        }

    def tidy(self, inside, manager):
        """What managers did to their tasks: closed, closed in one go, put off."""
        closed, pushed = defaultdict(list), defaultdict(list)
        # a duty by the task's due date that was not cancelled: a task closed later than it was due is overdue
        ran_out = {d.task: d.due for d in self.duties if d.book["by"] == "task_due" and d.state != "cancelled"}
        for lead in self.leads.values():
            for t in lead.tasks:
                if t.done is not None and t.done_by != 0 and inside(t.done):
                    closed[t.responsible, day_of(t.done)].append(t)
                for at, by, before, after in t.pushes:
                    if by and after > before and inside(at):
                        pushed[by].append((at, before))
        people = {m for m, _ in closed} | set(pushed)
        rows = []
        for m in sorted(people if manager is None else people & {manager}):
            done = late = in_batches = largest = 0
            for (who, _), tasks in closed.items():
                if who != m:
                    continue
                tasks.sort(key=lambda t: (t.done, t.id))
                batches = []
                for t in tasks:
                    if batches and t.done - batches[-1][-1].done <= BETWEEN:
                        batches[-1].append(t)
                    else:
                        batches.append([t])
                done += len(tasks)
                late += sum((t.id in ran_out) and t.done > ran_out[t.id] for t in tasks)
                in_batches += sum(len(b) for b in batches if len(b) >= BATCH)
                largest = max(largest, *map(len, batches))
            rows.append({"manager_name": NAME_OF[m], "completed": done, "completed_late": late, "in_batches": in_batches, "largest_batch": largest,
                         "pushed": len(pushed[m]), "pushed_overdue": sum(before <= at for at, before in pushed[m])})
        return rows

    # ---- rules ----

    def rules(self, days=30, which=lambda r: True):
        inside = self.period(days)
        some = {code: r for code, r in idrive.BOOK.items() if which(r)}
        rows = []
        for code, r in some.items():
            c = self.counts(lambda d: d.rule == code and inside(d.arose))
            rows.append({"rule": code, "severity_name": SEVERITY_NAME[r["severity"]], "whose": WHOSE[r["of"]], "violations": c["violations"],
                         "compliance": share(c["met"], c["decided"]),
                         **{k: c[k] for k in ("decided", "late", "missed", "breaches_at_once")}})
        broken = sorted((r for r in rows if r["violations"]),
                        key=lambda r: (-r["violations"], SEVERITIES.index(some[r["rule"]]["severity"]), r["rule"]))
        mine = [d for d in self.breaches if d.rule in some]
        return {
            "figures": {"rule_violations": sum(r["violations"] for r in rows), "broken_rules": len(broken),
                        "rule_critical": sum(r["violations"] for r in rows if some[r["rule"]]["severity"] == "critical"),
                        "never_arisen": sum(not r["violations"] and not r["decided"] for r in rows)},
            "says": [f"из {spaced(len(rows))}"],
            "tables": {"rules": table(rows, ["rule"], ["title"]),
                       "rule_violations": self.breach_rows([d for d in mine if inside(d.breached)], "who")},
            # bars are named by the rules' titles, which are words: known by their order
            "charts": {"most_broken": [[None, *(r["violations"] if some[r["rule"]]["severity"] == s else None for s in SEVERITIES)] for r in broken[:15]],
                       "rule_weeks": [w for w in self.weekly(mine) if any(w[1:])]},
        }

    # ---- funnel ----

    def funnel(self, days=30):
        inside = self.period(days)
        deals = [lead for lead in self.told if inside(lead.created)]
        been = {lead.id: {v[0] for v in lead.visits()} for lead in deals}
        rows = []
        for s in idrive.STAGES:
            reached = [lead for lead in deals if s in been[lead.id]]
            won = sum(lead.outcome() == "won" for lead in reached)
            rows.append({"stage_name": STAGE_NAME[s], "reached": len(reached), "reached_share": share(len(reached), len(deals)),
                         "now_here": sum(lead.stage() == s for lead in deals), "won_after": won, "won_share": share(won, len(reached))})
        ends = Counter("unknown" if lead.stage() is None else lead.outcome() for lead in deals)
        norms, limits = self.norms()
        losses = [x for x in self.losses() if inside(x["at"])]
        given, in_time = sum(x["reason"] is not None for x in losses), sum(x["in_time"] for x in losses)
        reasons = Counter(x["reason"] or "причина не указана" for x in losses)
        returns = defaultdict(list)
        for x in self.returns():
            if inside(x["at"]):
                returns[x["pair"]].append(x)
        return {
            "figures": {"funnel_deals": len(deals), "in_work": ends["open"], "won": ends["won"], "lost": ends["lost"], "losses": len(losses),
                        "in_time_share": share(in_time, len(losses))},
            "says": [f"{percent(100 * ends['won'] / len(deals))} созданных", f"{percent(100 * ends['lost'] / len(deals))} созданных",
                     f"{spaced(in_time)} из {spaced(len(losses))}; всего указана у {spaced(given)}"],
            "tables": {
                "funnel_table": table(rows, ["stage_name"]),
                "norms": table(norms, ["stage_name"], near={"median_seconds": 18.5, "p90_seconds": 18.5, "oldest_seconds": 18.5}),
                "stuck": table(self.stuck(limits), ["deal_id"], near={"dwell_seconds": 18.5, "median_seconds": 18.5, "times_median": .051}) | {"parts": ["broken_limits"]},
                "returns": table([{"pair_name": pair, "returns": len(some), "deals": len({x["deal"] for x in some}),
                                   "most": max(x["nth"] for x in some)} for pair, some in returns.items()], ["pair_name"])},
            "charts": {"funnel": [[r["stage_name"], r["reached"]] for r in rows],
                       "dwell": [[r["stage_name"], r["median_seconds"] / HOUR, r["p90_seconds"] / HOUR] for r in norms if r["finished_visits"]],
                       "reasons": [[r, n] for r, n in sorted(reasons.items(), key=lambda x: (-x[1], x[0]))[:15]]},
            "near": {"dwell": .056},         # rounded twice: to a hundredth and to a tenth of an hour
        }

    def entered(self, lead):
        """When a deal came where it stands, slips of the mouse included."""
        return lead.visits(slips=True)[-1][1]

    def norms(self):
        """How long visits took that began in the last ninety days, and who stands there now."""
        rows, limits = [], {}
        ended = defaultdict(list)
        for lead in self.sales:
            for stage, entered, left in lead.visits():
                left = left or lead.deleted
                if left and entered >= self.now - 90 * DAY:
                    ended[stage].append(left - entered)
        for s in OPEN:
            here = [self.now - self.entered(lead) for lead in self.told if lead.stage() == s]
            median, p90 = quantile(ended[s], .5), quantile(ended[s], .9)
            limits[s] = (median, p90)
            rows.append({"stage_name": STAGE_NAME[s], "finished_visits": len(ended[s]), "median_seconds": median, "p90_seconds": p90,
                         "now_here": len(here), "now_longer": sum(p90 is not None and x > p90 for x in here), "oldest_seconds": max(here, default=None)})
        return [r for r in rows if r["finished_visits"] or r["now_here"]], limits

    def stuck(self, limits):
        """Open deals that stand longer than nine of ten did, or past a limit that the regulation sets."""
        rows = []
        for lead in self.open_deals:
            median, p90 = limits.get(lead.stage(), (None, None))
            stands = self.now - self.entered(lead)
            past = [d for d in lead.duties if d.open and d.book["form"] == "within" and "leave" in d.book["expect"]]
            if not past and not (p90 is not None and stands > p90):
                continue
            touched = lead.touches()
            rows.append({"deal_id": lead.id, "deal_name": lead.name, "stage_name": STAGE_NAME[lead.stage()], "manager_name": NAME_OF[lead.who()],
                         "dwell_seconds": stands, "median_seconds": median, "times_median": stands / median if median else None,
                         "broken_limits": len(past), "days_without_touch": half_up((self.now - touched[-1]) / DAY, 1) if touched else None})
        return rows

    def losses(self):
        """Moves to where a deal is lost, with the reason as it stood until it came back."""
        found = []
        for lead in self.told:
            moves = [m for m in lead.moves() if m[1] != m[2] or m[1] is None]
            lost = lambda s: idrive.OUTCOME.get(s) == "lost"
            for i, (at, was, to, _) in enumerate(moves):
                if not lost(to) or lost(was):
                    continue
                back = next(((m[0], m[2]) for m in moves[i + 1:] if not lost(m[2])), None)
                if back and back[1] == was and back[0] <= at + idrive.UNDO:
                    continue
                told = [f for f in lead.of("field") if f["field"] == "reason" and (back is None or f["at"] < back[0])]
                reason = told[-1]["value"] if told else None
                if reason is None and back is None:
                    reason = lead.native
                late = any(d.breached is not None and d.arose == at and "field:reason" in d.book["expect"] for d in lead.duties)
                found.append({"deal": lead.id, "at": at, "reason": reason, "in_time": reason is not None and not late})
        return found

    def returns(self):
        """Visits to a stage that the deal had left before."""
        found = []
        for lead in self.sales:
            seen, last = Counter(), None
            for stage, entered, _ in lead.visits():
                if stage == last:
                    continue                            # what follows a slip goes on
                if stage is not None and seen[stage] and last is not None:
                    a, b = sorted((last, stage), key=idrive.STAGES.index)
                    found.append({"deal": lead.id, "at": entered, "nth": seen[stage] + 1, "pair": f"{STAGE_NAME[a]} ⇄ {STAGE_NAME[b]}"})
                seen[stage] += 1
                last = stage
        return found

    # ---- how fast leads get an answer ----

    def answer(self, lead):
        """Working seconds to the first touch; what came before the deal counts as at its creation."""
        touched = lead.touches()
        return work_between(lead.created, max(touched[0], lead.created)) if touched else None

    def response(self, days=30, manager=None):
        inside = self.period(days)
        deals = [lead for lead in self.told if inside(lead.created) and (manager is None or lead.who() == manager)]
        answers = {lead.id: self.answer(lead) for lead in deals}
        waits = {lead.id: self.now - lead.created for lead in deals if answers[lead.id] is None and lead.outcome() == "open"}

        def figures(some):
            known = [answers[lead.id] for lead in some if answers[lead.id] is not None]
            within = sum(s <= 900 for s in known)
            # one that nobody touched counts while it is open and its fifteen minutes are over
            counted = len(known) + sum(lead.id in waits and work_between(lead.created, self.now) > 900 for lead in some)
            return {"deals": len(some), "untouched": len(some) - len(known), "median_seconds": quantile(known, .5), "p90_seconds": quantile(known, .9),
                    "within_15": within, "counted_15": counted, "within_15_share": share(within, counted), "waiting": sum(lead.id in waits for lead in some)}
        total = figures(deals)
        by = lambda key: {k: figures([lead for lead in deals if key(lead) == k]) for k in {key(lead) for lead in deals}}
        hours = by(lambda lead: local(lead.created).hour)
        people = by(lambda lead: NAME_OF[lead.who()])
        spread, above = [], -1
        for name, upto in SPREAD:
            spread.append([name, sum(s is not None and above < s <= (upto or s) for s in answers.values())])
            above = upto
        minutes = lambda s: None if s is None else s / 60
        none = {"deals": 0, "median_seconds": None, "p90_seconds": None}
        return {
            "figures": {k: total[k] for k in ("within_15_share", "median_seconds", "p90_seconds", "untouched")},
            "says": [f"{spaced(total['within_15'])} из {spaced(total['counted_15'])} заявок", f"из {spaced(total['deals'])}; открыты и ждут: {spaced(total['waiting'])}"],
            "tables": {
                "by_manager_table": table([{"manager_name": name, **{k: f[k] for k in ("within_15_share", "counted_15", "median_seconds", "p90_seconds", "untouched", "deals")}}
                                           for name, f in people.items()], ["manager_name"]),
                "waiting": table([{"deal_id": lead.id, "deal_name": lead.name, "manager_name": NAME_OF[lead.who()], "stage_name": STAGE_NAME[lead.stage()],
                                   "created_at": moment(lead.created), "waiting_seconds": waits[lead.id]} for lead in deals if lead.id in waits],
                                 ["deal_id"], ["deal_url"])},
            "charts": {"spread": spread, "by_manager": [[name, f["within_15_share"]] for name, f in people.items()],
                       "arrivals": [[str(h), hours.get(h, none)["deals"]] for h in range(24)],
                       "by_hour": [[str(h), minutes(hours.get(h, none)["median_seconds"]), minutes(hours.get(h, none)["p90_seconds"])] for h in range(24)]},
            "near": {"by_hour": .51},
        }

    # ---- deals at risk ----

    def risk(self, manager=None, stage=None):
        chosen = lambda lead: (manager is None or lead.who() == manager) and (stage is None or lead.stage() == stage)
        rows, bars = [], defaultdict(lambda: [0, 0])
        health = Counter()
        for lead in self.open_deals:
            if not chosen(lead):
                continue
            open_ = [d for d in lead.duties if d.open]
            runs = [d for d in lead.duties if d.due is not None and d.state == "running"]
            critical = sum(d.severity == "critical" for d in open_)
            how = "broken" if open_ else "due" if any(d.warned for d in runs) else "fine"
            health.update({how: 1, "all": 1, "critical": critical > 0})
            if open_:
                bars[lead.stage()][critical == 0] += 1
            if how != "fine":
                rows.append({"deal_id": lead.id, "deal_name": lead.name, "stage_name": STAGE_NAME[lead.stage()], "manager_name": NAME_OF[lead.who()],
                             "health_name": {"broken": "есть нарушения", "due": "скоро срок"}[how], "open_critical": critical, "open_violations": len(open_),
                             "missing": len(open_), "next_due_at": moment(min((d.due for d in runs), default=None))})
        none = []
        for lead in self.without_task():
            if not chosen(lead):
                continue
            last = max(lead.tasks, key=lambda t: (t.done, t.id), default=None)
            none.append({"deal_id": lead.id, "deal_name": lead.name, "stage_name": STAGE_NAME[lead.stage()], "manager_name": NAME_OF[lead.who()],
                         "without_task_seconds": self.now - (last.done if last else lead.created), "last_task_body": last.text if last else None,
                         "asked": any(d.open and any(t.split(":")[0] == "task" for t in d.book["expect"]) for d in lead.duties)})
        here = {lead.id for lead in self.open_deals}
        closed = {d.lead.id for d in self.breaches if d.open and d.lead.id not in here and (manager is None or d.manager == manager)}
        asked = sum(r.pop("asked") for r in none)
        soon = self.running(lambda d: not d.of_bot and (manager is None or d.manager == manager))
        return {
            "figures": {"broken": health["broken"], "with_critical": health["critical"], "due": health["due"], "without_task": len(none),
                        "closed_broken": len(closed)},
            "says": [f"из {spaced(health['all'])} открытых", f"по регламенту нужна: {spaced(asked)}"],
            "tables": {
                "at_risk": table(rows, ["deal_id"], ["deal_url"]) | {"parts": ["missing"]},
                "no_task": table(none, ["deal_id"], ["title"], {"without_task_seconds": 18.5}),
                "deadlines": table([{"rule": d.rule, "deal_id": d.lead.id, "due_at": moment(d.due), "left_seconds": d.due - self.now,
                                     "manager_name": d.who, "deal_name": d.lead.name} for d in soon], ["deal_id", "rule", "due_at"], ["title"])},
            "charts": {"risk_stages": [[STAGE_NAME[s], *n] for s, n in bars.items()]},
        }

    # ---- one deal ----

    def breaches_of(self, lead):
        return sum(d.breached is not None for d in lead.duties)

    def deal(self):
        """At first the deal with most breaches, of these the one with the latest."""
        most = max(map(self.breaches_of, self.leads.values()))
        return {"figures": {"deal_violations": most, "deal_touches": None, "deal_touches_before_contact": None}, "any": ["deal_touches", "deal_touches_before_contact"]}

    def stories(self):
        """Every deal's story: how many lines of each kind it has, and what stands above it."""
        out = {}
        for lead in self.leads.values():
            lines = Counter(f["kind"] for f in lead.facts if not f.get("first"))
            lines["created"] = 1
            lines["deleted"] = lead.deleted is not None
            for t in lead.tasks:
                until = t.done if t.done is not None else self.now
                lines.update({"task_added": 1, "task_due": t.due < until, "task_done": t.done is not None})
            for d in lead.duties:
                if d.breached is not None:
                    lines.update({"violation": 1, "resolved": d.resolved is not None and d.resolution != "moment"})
            touches, contacts = lead.touches(), lead.contacts()
            out[str(lead.id)] = {
                "lines": {k: n for k, n in lines.items() if n}, "violations": self.breaches_of(lead), "created": moment(lead.created), "touches": len(touches),
                "touches_before_contact": sum(t <= contacts[0] for t in touches) if contacts else None,
                "told": lead in self.told}
        return out

    # ---- the regulation, and where the data comes from ----

    def regulation(self, which=lambda r: True):
        some = {code: r for code, r in idrive.BOOK.items() if which(r)}
        rows = [{"rule": code, "stage_name": STAGE_NAME[r["stage"]] if r["stage"] else "Все этапы", "severity_name": SEVERITY_NAME[r["severity"]],
                 "duty_of_name": WHOSE[r["of"]]} for code, r in some.items()]
        return {"figures": {"rules_in_force": len(some), "not_stated": sum(r["basis"] != "stated" for r in some.values())},
                "tables": {"regulation": table(rows, ["rule"], ["title", "clause", "how", "basis_name"])},
                "moves": len(idrive.MOVES)}

    def sync(self):
        gaps = [{"name": f"Продажи: {title}"} for id_, title, _ in school.SALES_STATUSES if id_ == school.UNMAPPED]
        # the pipeline that the regulation does not speak of; the calendar, which is our guess
        gaps += [{"name": "Курсы для юрлиц"}, {"name": "Каждый день с 9 до 20"}]
        unread = sum(thing.kind == "event" and thing.fixed["type"] == "hologram_projected" and at <= self.now for at, _, thing, _ in self.world.log)
        return {"figures": {"known_until": moment(self.now), "quarantined": unread}, "served": ["rows_read", "requests"],
                "tables": {"gaps": table(gaps, ["name"], ["meaning", "rules", "what_to_do"]),
                           "parts": {**table([], ["entity"], ["entity_name", *named()["/sync/", "table parts"]]), "served": True}}}

    # ---- what filters must show ----

    def filters(self):
        of = {name: id_ for id_, name in NAME_OF.items()}
        week = self.weeks[1]
        return [
            ["/", "desktop", {"week": week.isoformat()}, self.overview(week)],
            ["/", "phone", {"week": self.weeks[-1].isoformat()}, self.overview(self.weeks[-1])],
            ["/managers/", "phone", {"manager": of["Максим Чудов"]}, self.managers(30, of["Максим Чудов"])],
            ["/managers/", "desktop", {"days": 7}, self.managers(7)],
            ["/rules/", "desktop", {"severity": "critical"}, self.rules(30, lambda r: r["severity"] == "critical")],
            ["/rules/", "desktop", {"whose": "bot"}, self.rules(30, lambda r: r["of"] == "bot")],
            ["/rules/", "desktop", {"stage": "messaging"}, self.rules(30, lambda r: r["stage"] == "messaging")],
            ["/rules/", "phone", {"days": 7}, self.rules(7)],
            ["/funnel/", "desktop", {"days": 7}, self.funnel(7)],
            ["/response/", "desktop", {"manager": of["Анна Белова"]}, self.response(30, of["Анна Белова"])],
            ["/response/", "phone", {"days": 7}, self.response(7)],
            ["/risk/", "desktop", {"stage": "meeting"}, self.risk(None, "meeting")],
            ["/risk/", "phone", {"manager": of["Лилия Шарипова"]}, self.risk(of["Лилия Шарипова"])],
            ["/regulation/", "phone", {"stage": "won"}, self.regulation(lambda r: r["stage"] == "won")],
        ]


# ---- where the truth of each figure comes from ----

#: page | figures, table or chart | its figures or columns | source
SOURCES = """
/ | figures | violations critical still_open compliance | judged
/ | table who_what | who severity_name violations previous_violations deals still_open | judged
/ | table open_now | deal_name who severity_name late_seconds | judged
/ | table due_soon | due_at left_seconds who deal_name | judged
/ | chart who | | judged
/ | chart by_week | | judged
/ | chart compliance_by_week | | judged
/managers/ | figures | compliance late missed critical | judged
/managers/ | table cards | manager_name compliance decided met late missed cancelled running breaches_at_once critical | judged
/managers/ | table tidy | manager_name completed completed_late in_batches largest_batch pushed pushed_overdue | lived; completed_late judged
/managers/ | table by_rule | severity_name violations deals still_open | judged
/managers/ | table listed | breached_at manager_name deal_name severity_name late_seconds | judged
/managers/ | chart broken | | judged
/managers/ | chart weekly | | judged
/managers/ | chart weekly_violations | | judged
/rules/ | figures | rule_violations broken_rules rule_critical never_arisen | judged
/rules/ | table rules | severity_name whose violations compliance decided late missed breaches_at_once | judged
/rules/ | table rule_violations | breached_at who deal_name severity_name late_seconds | judged
/rules/ | chart most_broken | | judged
/rules/ | chart rule_weeks | | judged
/funnel/ | figures | funnel_deals in_work won lost losses in_time_share | lived; in_time_share judged
/funnel/ | table funnel_table | stage_name reached reached_share now_here won_after won_share | lived
/funnel/ | table norms | stage_name finished_visits median_seconds p90_seconds now_here now_longer oldest_seconds | lived
/funnel/ | table stuck | deal_name stage_name manager_name dwell_seconds median_seconds times_median broken_limits days_without_touch | lived; broken_limits judged
/funnel/ | table returns | pair_name returns deals most | lived
/funnel/ | chart funnel | | lived
/funnel/ | chart dwell | | lived
/funnel/ | chart reasons | | lived
/response/ | figures | within_15_share median_seconds p90_seconds untouched | lived
/response/ | table by_manager_table | manager_name within_15_share counted_15 median_seconds p90_seconds untouched deals | lived
/response/ | table waiting | deal_name manager_name stage_name created_at waiting_seconds | lived
/response/ | chart spread | | lived
/response/ | chart by_manager | | lived
/response/ | chart arrivals | | lived
/response/ | chart by_hour | | lived
/risk/ | figures | broken with_critical due without_task closed_broken | judged; without_task lived
/risk/ | table at_risk | deal_name stage_name manager_name health_name open_critical open_violations missing next_due_at | judged
/risk/ | table no_task | deal_name stage_name manager_name without_task_seconds last_task_body | lived
/risk/ | table deadlines | due_at left_seconds manager_name deal_name | judged
/risk/ | chart risk_stages | | judged
/deal/ | figures | deal_violations deal_touches deal_touches_before_contact | judged; touches lived
/regulation/ | figures | rules_in_force not_stated | book
/regulation/ | table regulation | stage_name severity_name duty_of_name | book
/sync/ | figures | known_until rows_read requests quarantined | served
/sync/ | table parts | rows_read requests read_until load_percent quarantined last_error | served
/sync/ | table gaps | name | lived
"""


def named():
    """{(page, block): columns}, as SOURCES names them."""
    found = {}
    for line in SOURCES.strip().splitlines():
        page, block, columns, _ = (c.strip() for c in line.split("|"))
        found[page, block] = set(columns.split())
    return found


def check_named(told):
    """What is counted here and what SOURCES names are the same."""
    counted = {}
    for page, blocks in told.items():
        if blocks.get("figures"):
            counted[page, "figures"] = set(blocks["figures"]) | set(blocks.get("served", ()))
        for name, t in blocks.get("tables", {}).items():
            counted[page, f"table {name}"] = {c for r in t["rows"] for c in r} - {"rule", "deal_id"} - set(t.get("not", ())) if t["rows"] else named().get((page, f"table {name}"))
        for name in blocks.get("charts", ()):
            counted[page, f"chart {name}"] = set()
    missing = [(key, (counted.get(key, set()) or set()) ^ named().get(key, set())) for key in counted.keys() | named().keys()
               if counted.get(key) != named().get(key)]
    if missing:
        raise SystemExit(f"SOURCES in pages.py does not name what is counted: {missing}")


def sources():
    """SOURCES as the table of docs/dashboards.md."""
    lines = [f"* **{word}**: {meaning}." for word, meaning in SOURCE_WORDS.items()]
    lines += ["", "| page | what | figures | truth |", "| --- | --- | --- | --- |"]
    for line in SOURCES.strip().splitlines():
        page, block, columns, source = (c.strip() for c in line.split("|"))
        lines.append(f"| `{page}` | {block} | {', '.join(columns.split()) or 'each bar or point'} | {source} |")
    return "\n".join(lines)
