#!/usr/bin/env python3
"""A short soak with fixed events, and what a soak must find."""
import os
import random
import signal
import time
from unittest import mock

import harness
import soak
import soak_events
import soak_levels
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


@case
def kernel_connections_need_their_exceptions(bed):
    """What was begun while no engine was there is looked for among the engine's exceptions."""
    need_engine()
    one = soak.Soak(bed, soak.Record(), 1)
    begun = []
    try:
        one.start(lambda s: [x for x in soak_loads.services(s) if x.name == "echo level"],
                  lambda s: [])
        one.stop_engine()
        with bed.client.inside():
            for address in (harness.SERVER, harness.SERVER6):
                begun.append(soak_loads.Echo(address, soak_loads.LEVEL, random.Random(1)))
                begun[-1].round()
        one.start_engine()
        one.levels.check_exceptions()
        check(len(one.levels.kernels) == len(begun), f"{one.levels.kernels}")
        with mock.patch.object(soak_levels, "exceptions", lambda pid: set()):
            try:
                one.levels.check_exceptions()
            except AssertionError as failure:
                check(f"{len(begun)} connections" in str(failure), f"{failure}")
            else:
                check(False, "connections without exceptions were not found")
        for conversation in begun:
            conversation.round()
    finally:
        for conversation in begun:
            conversation.close()
        one.finish()
    check(not one.record.failures, f"{one.record.failures}")
    bed.lab.close()


if __name__ == "__main__":
    harness.main()
