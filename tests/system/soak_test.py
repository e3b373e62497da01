#!/usr/bin/env python3
"""A short soak with fixed events, and what a soak must find."""
import os
import signal
import time

import harness
import soak
import soak_events
import soak_loads
from harness import case, check, need_engine

FEW = ("program killed", "engine restarted", "client killed", "address removed", "operator asks",
       "engine killed", "hostile program")
MINIMUM = 300  # requests in this time, on a slow machine


def started(bed, seed=1):
    record = soak.Record()
    one = soak.Soak(bed, record, seed)
    one.start(soak_loads.services, soak_loads.loads)
    return one


@case
def few_events(bed):
    """Events in this order, then a quiet point: no failure."""
    need_engine()
    one = started(bed, int(os.environ.get("SEED") or 1))
    try:
        by_name = {event.name: event for event in soak_events.table(bed)}
        time.sleep(1)
        one.run_these([by_name[name] for name in FEW])
    finally:
        one.finish()
    print(soak.summary(one.record, os.environ.get("SEED", 1), "this test"))
    check(not one.record.failures, f"{one.record.failures}")
    check(sum(one.record.operations.values()) > MINIMUM, f"{one.record.operations}")
    bed.lab.close()


@case
def finds_what_nobody_announced(bed):
    """A program that is killed, one that stands still and a socket that stays, without an event
    that would explain it."""
    need_engine()
    one = started(bed)
    failures = one.record.failures
    try:
        time.sleep(1)
        echo = next(s for s in one.services if s.name == "echo level")
        echo.process.send_signal(signal.SIGKILL)
        harness.wait_for(lambda: any(": cut of echo level" in text
                                     or ": refused of echo level" in text for text in failures), 10,
                         lambda: f"the failure of a cut: {failures}")
        one.look()
        check(any("echo level has ended by itself" in text for text in failures), f"{failures}")
        redis = next(s for s in one.services if s.name == "redis")
        redis.process.send_signal(signal.SIGSTOP)
        time.sleep(soak.STALL_SECONDS + 1)
        redis.process.send_signal(signal.SIGCONT)
        harness.wait_for(lambda: any("for a request to redis" in text for text in failures), 10,
                         lambda: f"the failure of a stall: {failures}")
    finally:
        one.finish()
    check(not any("cut of redis" in text for text in failures), f"{failures}")
    bed.lab.close()


if __name__ == "__main__":
    harness.main()
