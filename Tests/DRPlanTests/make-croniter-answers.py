#!/usr/bin/env python3
"""Writes croniter-answers.json: what croniter, a scheduler library for Python, says of expressions and moments.

    python3 -m venv venv && venv/bin/pip install croniter && venv/bin/python make-croniter-answers.py > croniter-answers.json

In UTC: across changes of the clocks croniter has rules of its own."""

import datetime
import importlib.metadata
import json
import random

from croniter import croniter

fixed = [
    "* * * * *", "*/5 * * * *", "*/15 * * * *", "0 * * * *", "0 2 * * *", "30 2 * * *", "0 3 * * *", "0 4 1 * *",
    "0 0 * * 0", "0 1 * * 7", "0 10 * * thu#1", "0 10 * * 4#3", "15 6 * * mon#5", "0 0 29 2 *", "0 12 31 * *",
    "59 23 31 12 *", "0-30/10 8-17 * * mon-fri", "5,10,50-55/2 1,13 * jan,jul *", "0 0 1,15 * 3", "0 0 13 * fri",
    "10-40/15 */6 */10 * *", "7 5 * feb-apr sun,wed", "@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly",
    "@annually", "0 0 * * 1-5", "0 22 28-31 * *", "23 0-20/2 * * *", "0 0,12 1 */2 *", "0 4 8-14 * *", "5 0 * 8 *",
]
source = random.Random(11)


def field(low, high):
    kind = source.randrange(5)
    if kind == 0:
        return "*"
    if kind == 1:
        return str(source.randint(low, high))
    if kind == 2:
        # Of 3-3 croniter makes 3 and all that follow, as of a range that goes round.
        first = source.randint(low, high - 1)
        return "%d-%d" % (first, source.randint(first + 1, high))
    if kind == 3:
        return "*/%d" % source.randint(1, max(2, (high - low) // 2))
    return ",".join(str(number) for number in sorted(source.sample(range(low, high + 1), 3)))


# A field of days that begins with * counts as unlimited here, as in cron(8); croniter does not agree on */n, so it is left out of these.
def day(low, high):
    while True:
        text = field(low, high)
        if not text.startswith("*/"):
            return text


made = ["%s %s %s %s %s" % (field(0, 59), field(0, 23), day(1, 28), field(1, 12), day(0, 6)) for _ in range(80)]
epoch = datetime.datetime(1970, 1, 1)
answers = []
for text in [text for text in fixed if text.split()[2:3] != ["*/10"]] + made:
    for _ in range(6):
        moment = source.randint(1_700_000_000, 1_900_000_000)
        start = epoch + datetime.timedelta(seconds=moment)
        ahead = croniter(text, start).get_next(datetime.datetime)
        back = croniter(text, start).get_prev(datetime.datetime)
        answers.append([text, moment, int((ahead - epoch).total_seconds()), int((back - epoch).total_seconds())])
lines = ",\n".join(json.dumps(answer) for answer in answers)
print('{"croniter": "%s", "answers": [\n%s\n]}' % (importlib.metadata.version("croniter"), lines))
