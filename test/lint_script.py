#!/usr/bin/python3
"""Rules for the script and for what it makes, as pgspot has them (it is not in
Debian): nothing is adopted, nothing is looked up where others may write, nobody
gains rights by calling.  Prints TAP; needs a database with regcrm (PGDATABASE).
"""
import glob
import os
import re
import sys

import psycopg2

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
cur = psycopg2.connect("").cursor()
cur.execute("set client_min_messages = error")
n = bad = 0


def ok(found, name):
    global n, bad
    n += 1
    bad += bool(found)
    print("%s %d - %s" % ("not ok" if found else "ok", n, name))
    for line in list(found)[:20]:
        print("#   %s" % (line,))


def ask(text, *args):
    cur.execute(text, args or None)
    return cur.fetchall()


# ---- the script itself ----

def statements(text):
    """The statements of a script, bodies and strings blanked out, with their lines."""
    text = re.sub(r"\$(\w*)\$.*?\$\1\$", lambda m: "$body$" + "\n" * m.group(0).count("\n"), text, flags=re.S)
    text = re.sub(r"'(?:[^']|'')*'", lambda m: "''" + "\n" * m.group(0).count("\n"), text)
    text = re.sub(r"--[^\n]*", "", text)
    line = 1
    for statement in text.split(";"):
        begin = statement[:len(statement) - len(statement.lstrip())].count("\n")
        yield line + begin, " ".join(statement.split())
        line += statement.count("\n")


script = [(os.path.basename(f), line, s) for f in sorted(glob.glob(os.path.join(TOP, "ext/[0-9]*.sql")))
          for line, s in statements(open(f, encoding="utf8").read()) if s]
assert len(script) > 300, len(script)
ok([s for s in script if re.search(r"\b(or replace|if not exists)\b", s[2], re.I)],
   "the script replaces and adopts nothing (CREATE OR REPLACE, IF NOT EXISTS)")
made = r"create (?:function|procedure|type|operator class|operator|table|view|domain|aggregate|sequence) +(?:if not exists +)?"
assert sum(bool(re.match(made, s[2], re.I)) for s in script) > 150
ok([s for s in script if re.match(made, s[2], re.I) and not re.match(made + r"regcrm\.", s[2], re.I)], "what it makes is named with its schema")
ok([s for s in script if re.match(r"(comment on (?!cast)\w+|alter \w+|revoke|grant)\b", s[2], re.I) and "regcrm" not in s[2]], "so is what it comments, grants and revokes")
ok([s for s in script if re.search(r"@extschema|\bset +(session +)?authorization|\bset +role|\bcreate +(role|user)\b", s[2], re.I)], "it takes no schema out of text, and no role")
ok([s for s in script if re.match(r"set(?! local)\b", s[2], re.I)], "it sets nothing beyond itself")
ok([s for s in script if re.search(r"security definer", s[2], re.I) and not re.match(r"create function regcrm\.drop_secret\(", s[2], re.I)],
   "SECURITY DEFINER is drop_secret() alone: it deletes tokens for disconnect(), takes a number, reads no table but that of the secrets")

# ---- bodies: what is replaced there is looked at first ----

ok(ask("""select p.oid::regprocedure::text from pg_proc p where p.pronamespace = 'regcrm'::regnamespace
    and p.prosrc ~* '(or replace|if not exists)' and p.proname !~ '^(setup(_.*)?|detach_by_owner|refresh_marts_by_owner)$' and p.prosrc !~* 'if not exists *\\('
    """), "in bodies only setup() and what it calls makes tables and views; it looks whose they are (describe())")
ok(ask("""select f.signature from (select p.oid::regprocedure::text as signature, p.prosrc from pg_proc p where p.pronamespace = 'regcrm'::regnamespace and p.prosrc ~* 'create table if not exists') f
    where (select count(*) from regexp_matches(f.prosrc, 'create table if not exists', 'gi')) > (select count(*) from regexp_matches(f.prosrc, 'regcrm\\.describe\\(''regcrm\\.', 'gi'))"""),
   "each table that setup() makes or finds is looked at")

# ---- what is there ----

ours = """from pg_proc p join pg_language l on l.oid = p.prolang
    join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e' join pg_extension e on e.oid = d.refobjid and e.extname = 'regcrm'"""
ok(ask("select p.oid::regprocedure::text " + ours + """ where l.lanname not in ('c', 'internal') and p.prosqlbody is null
    and not coalesce('search_path=pg_catalog, pg_temp' = any (p.proconfig), false)"""), "every function pins its path, pg_temp last, or is bound when it is made (C pins it within)")
ok(ask("select p.oid::regprocedure::text " + ours + " where p.prosecdef and p.proname <> 'drop_secret'"), "nor is any function there SECURITY DEFINER but that one")
ok(ask("select p.oid::regprocedure::text " + ours + " where l.lanname not in ('c', 'sql', 'plpgsql')"), "no function is in a language that reaches out of the database")
ok(ask("select c.relname from pg_class c where c.relnamespace = 'regcrm'::regnamespace and c.relkind = 'v' and not coalesce('security_invoker=true' = any (c.reloptions), false)"), "every view runs with the rights of who asks")
ok(ask("select p.proname " + ours + " group by 1 having count(*) > 1"), "no function has an overload")
ok(ask("""select distinct p.oid::regprocedure::text %s cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
    where a.grantee = 0 and p.proname !~ '^(stage_.*|text_to_stage|current_account|judging_due)$'""" % ours), "nothing is for PUBLIC but what type and tables call themselves")
ok(ask("""select c.relname from pg_class c cross join lateral aclexplode(c.relacl) a where c.relnamespace = 'regcrm'::regnamespace and a.grantee = 0
    union all select n.nspname from pg_namespace n cross join lateral aclexplode(n.nspacl) a where n.nspname = 'regcrm' and a.grantee = 0"""), "no table, sequence, view or schema is")

# functions whose body is text: made again with their bodies looked at, they still find everything
again = ask("select p.oid::regprocedure::text, pg_get_functiondef(p.oid) " + ours + " where l.lanname = 'sql' and p.prosqlbody is null")
cur.execute("create temp table deal (x int); create temp table rule (x int); create temp table event (x int)")
failed = []
for signature, definition in again:
    cur.execute("savepoint s")
    try:
        cur.execute("set local check_function_bodies = on")
        cur.execute(definition)
    except psycopg2.Error as error:
        failed.append("%s: %s" % (signature, error))
    cur.execute("rollback to s")
ok(failed, "bodies of SQL name what they mean")

# ---- SQL in C ----

tables = [r[0] for r in ask("select c.relname from pg_class c where c.relnamespace = 'regcrm'::regnamespace and c.relkind in ('r', 'v')")]
unqualified, seen = [], 0
for f in sorted(glob.glob(os.path.join(TOP, "src/*.c"))):
    source = open(f, encoding="utf8").read()
    for text in re.finditer(r'"((?:[^"\\\n]|\\.)*)"(?:\s*"((?:[^"\\\n]|\\.)*)")*', source):
        sql = "".join(re.findall(r'"((?:[^"\\\n]|\\.)*)"', text.group(0)))
        seen += bool(re.match(r"\s*(select|insert|update|delete|with)\b.*\bregcrm\.", sql))
        for match in re.finditer(r"\b(?:from|join|update|into)\s+(%s)\b(?!\.)" % "|".join(map(re.escape, tables)), sql):
            if re.match(r"\s*(select|insert|update|delete|with)\b", sql):
                unqualified.append("%s: %s" % (os.path.basename(f), sql[:80]))
assert seen > 40, seen
ok(unqualified, "statements in C name tables with their schema")

print("1..%d" % n)
sys.exit(bad != 0)
