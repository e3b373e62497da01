#!/usr/bin/env python3
"""Python's own servers."""
import os

import harness
import transfers
from harness import PYTHON, SERVER, case, check, write_script


@case
def http_server(bed):
    files = transfers.make_files(bed, [1_000_000, 100])
    bed.serve(transfers.http_server(os.path.dirname(files[0])), 8000)
    with bed.engine_opens():
        transfers.fetch(bed.client.run, f"http://{SERVER}:8000", files, 20)
        missing = bed.client.run(["curl", "-s", "-o", os.devnull, "-w", "%{http_code}",
                                  f"http://{SERVER}:8000/missing"])
        check(missing.stdout == "404", f"got {missing.stdout} for a missing file")


@case
def asyncio_server(bed):
    bed.serve([PYTHON, write_script(bed, "asyncio_echo.py", transfers.ASYNCIO_ECHO)], 8001)
    with bed.engine_opens():
        bed.load("echoload", "--server", f"{SERVER}:8001", "-c", "20", "-n", "10000")
        bed.load("echoload", "--server", f"{SERVER}:8001", "-c", "4", "--size", "300000",
                 "--depth", "2", "-n", "200")


harness.main()
