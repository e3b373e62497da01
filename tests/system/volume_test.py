#!/usr/bin/env python3
"""A short run of what tools/volume does for millions of operations."""
import harness
import volume
from harness import case, check

OPERATIONS = 200_000


@case
@volume.options
def all_programs(bed):
    checked, counted = volume.run(bed, OPERATIONS, 100, print)
    check(sum(checked.values()) >= OPERATIONS, f"only {checked}")
    check(len(checked) + len(counted) == len(volume.STEPS), f"a step is missing: {checked}")


harness.main()
