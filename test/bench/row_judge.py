"""The pure judge by callgrind: test/bench/judge prints its own table."""
import re
import subprocess
from pathlib import Path

from lib import row, say

JUDGE = Path(__file__).resolve().parent / "judge"


def run():
    if not JUDGE.exists():
        raise RuntimeError("test/bench/judge is missing")
    out = subprocess.run([str(JUDGE)], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    for line in out.stdout.splitlines():
        say(line)
    if out.returncode:
        raise RuntimeError("test/bench/judge failed")

    def figure(words):
        return float(re.search(r"\| *%s *\| *([\d.]+)" % words, out.stdout).group(1))
    instructions, speed = figure("instructions an event"), figure("events a second of one core")
    plain = figure("events a second of a plain pass over the same arrays")
    row("pure judge, built-in regulation", "", instructions, None, "instructions an event", "", "< 400", instructions < 400)
    row("pure judge, a core", "a plain pass over the same arrays", speed, plain, "million events a second", "%.2f" % (plain / speed), "≥ 5 million", speed >= 5)
