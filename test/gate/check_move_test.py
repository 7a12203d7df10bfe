#!/usr/bin/python3
"""check_move() says what the gate would say.  For random deals, histories and
targets it is empty if and only if the UPDATE commits, and it names the rules of
the error's DETAIL; allowed_moves() lists the targets that are no FLOW and says
of each what check_move() says; neither writes anything.

Deals stay, so a history is also what earlier rounds wrote in mode enforce: a
move taken back within the minute, a breach there was before, effects.

    check_move_test.py [--rounds 500] [--seed 1]
"""
import argparse
import random

import psycopg2

from story import (ACCOUNT, STAGES, Bases, Refused, Tap, attempt, completing, connect, described, facts, make_writer, move, random_acts,
                   random_base, start)


class Round:
    def __init__(self, writer, cur, deal):
        self.writer, self.cur, self.deal = writer, cur, deal

    def asked(self, target):
        self.cur.execute("select rule, title, hint from regcrm.check_move(%s, %s, %s::text::regcrm.stage)",
                         (ACCOUNT, self.deal, target))
        return self.cur.fetchall()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    r = random.Random(options.seed)
    tap = Tap()
    admin, writer = start()
    bases = Bases(admin)
    titles = {}
    admin_cur = admin.cursor()
    admin_cur.execute("select code, title from regcrm.rule where regulation = 'idrive'")
    titles.update(admin_cur.fetchall())
    admin_cur.execute("select from_stage::text, to_stage::text from regcrm.transition where regulation = 'idrive'")
    legal = set(admin_cur.fetchall())
    admin.commit()
    make_writer(admin_cur, "regcrm_boss")
    # whom the regulation does not bind: his moves are judged otherwise
    admin_cur.execute("insert into regcrm.manager (account_id, id, name, in_scope, db_role) values (%s, 3, 'B', false, 'regcrm_boss')", (ACCOUNT,))
    # in a stage that the mapping does not know
    admin_cur.execute("insert into regcrm.deal (account_id, id, stage, manager_id) select %s, d, null, 1 from generate_series(1, 15) d", (ACCOUNT,))
    admin.commit()
    writers = [writer, connect(role="regcrm_boss")]
    deals = [random_base(r, bases) for _ in range(60)] + list(range(1, 16))
    came_from = {}
    count = {"commits": 0, "refused": 0, "FLOW": 0, "several rules": 0, "taken back": 0}
    wrong = {}

    def fault(what, *diagnosis):
        wrong.setdefault(what, []).append(diagnosis)

    for number in range(options.rounds):
        writer = writers[r.random() < 0.15]
        cur = writer.cursor()
        if r.random() < 0.3:
            deals[r.randrange(60)] = random_base(r, bases)
        deal = r.choice(list(came_from)[-3:] if came_from and r.random() < 0.3 else deals)
        cur.execute("select stage::text from regcrm.deal where account_id = %s and id = %s", (ACCOUNT, deal))
        here = cur.fetchone()[0]
        writer.commit()
        ways = [t for f, t in legal if f == here]
        target = r.choice(ways if ways and here is not None and r.random() < 0.75 else STAGES)
        if deal in came_from and r.random() < 0.4:
            target = came_from[deal]        # taken back
        round_ = Round(writer, cur, deal)

        # some of what the move needs, in a transaction before or in the same one
        acts = random_acts(r, 2, bot=False)
        needed = completing(here, target)
        acts += r.sample(needed, r.randint(max(0, len(needed) - 2), len(needed)))
        r.shuffle(acts)
        told = [described(acts) or "(nothing)", "then %d from %s to %s" % (deal, here, target), "round %d, seed %d%s" % (number, options.seed, ", out of scope" if writer is writers[1] else "")]
        before_move = acts
        if r.random() < 0.5:
            for act in acts:
                attempt(writer, deal, [act], mode=None)     # what is refused is left out
            before_move = []

        # neither writes: a transaction that is read only, without a number
        if not before_move:
            before = facts(writer, deal)
            cur.execute("set transaction read only")
            round_.asked(target)
            cur.execute("select to_jsonb(m) from regcrm.allowed_moves(%s, %s) m", (ACCOUNT, deal))
            cur.fetchall()
            cur.execute("select pg_current_xact_id_if_assigned() is null")
            if not cur.fetchone()[0]:
                fault("it writes nothing", *told)
            writer.commit()
            if facts(writer, deal) != before:
                fault("it changes nothing", *told)

        try:
            for act in before_move:
                act(cur, deal)
        except psycopg2.Error:
            writer.rollback()
            continue
        cur.execute("select stage::text from regcrm.deal where account_id = %s and id = %s", (ACCOUNT, deal))
        here = cur.fetchone()[0]
        if here == target:
            writer.rollback()       # an effect has moved it already: nothing is to be asked
            continue
        rows = round_.asked(target)
        cur.execute("select to_jsonb(m) from regcrm.allowed_moves(%s, %s) m", (ACCOUNT, deal))
        allowed = [row[0] for row in cur.fetchall()]
        said = sorted(row[0] for row in rows)

        # allowed_moves agrees, target by target
        targets = {}
        for row in allowed:
            targets.setdefault(row["to_stage"], set()).update(needs(row))
        for stage in STAGES:
            if stage == here:
                continue
            if stage == target or r.random() < 0.2:
                alone = {row[0] for row in round_.asked(stage)}
                if (stage in targets) == ("FLOW" in alone):
                    fault("allowed_moves has the moves that check_move does not call FLOW", stage, alone, allowed, *told)
                elif stage in targets and targets[stage] != alone:
                    fault("allowed_moves says what check_move says", stage, alone, targets[stage], *told)

        for rule, title, hint in rows:
            if title != titles[rule] or not hint:
                fault("it gives title and hint", rule, title, hint, *told)

        refused = None
        place = "statement"
        try:
            move(target)(cur, deal)
            place = "commit"
            cur.execute("set constraints all immediate")
            writer.commit()
        except psycopg2.Error as error:
            writer.rollback()
            refused = Refused(error, place)
        if refused is None:
            count["commits"] += 1
            if here is not None:
                came_from[deal] = here
            if said:
                fault("what it objects to does not commit", said, *told)
        else:
            count["refused"] += 1
            count["FLOW"] += refused.rules == ["FLOW"]
            count["several rules"] += len(refused.rules) > 1
            if not said:
                fault("where it is empty, the move commits", refused, *told)
            elif said != refused.rules:
                fault("it names the same rules", "check_move: %s" % said, refused, *told)
            elif rows[0][0] != refused.rule:
                fault("its first rule is the constraint", rows, refused, *told)
        count["taken back"] += refused is None and (here, target) not in legal and here is not None and writer is writers[0]

    for what in ["where it is empty, the move commits", "what it objects to does not commit", "it names the same rules",
                 "its first rule is the constraint", "it gives title and hint",
                 "allowed_moves has the moves that check_move does not call FLOW", "allowed_moves says what check_move says",
                 "it writes nothing", "it changes nothing"]:
        found = wrong.get(what, [])
        tap.ok(not found, "%s (%d rounds)" % (what, options.rounds), "%d times not" % len(found),
               *[line for f in found[:3] for line in ("--",) + tuple(f)])
    tap.ok(min(count.values()) > 0 and min(count["commits"], count["refused"]) > options.rounds // 10,
           "the rounds come to both ends", count)
    tap.done()


def needs(row):
    """Codes of the rules that a row of allowed_moves says are still to be met."""
    value = row.get("rules", row.get("rule"))
    if value is None:
        return set()
    return set(value) if isinstance(value, list) else {value}


main()
