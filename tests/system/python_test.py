#!/usr/bin/env python3
"""Python's own servers."""
import hashlib
import os

import harness
from harness import PYTHON, SERVER, case, check, write_script

ASYNCIO_ECHO = """
import asyncio
async def serve(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(serve, "0.0.0.0", 8001)
    await server.serve_forever()
asyncio.run(main())
"""


@case
def http_server(bed):
    content = os.urandom(1_000_000)
    with open(os.path.join(bed.lab.directory, "file.bin"), "wb") as file:
        file.write(content)
    bed.serve([PYTHON, "-m", "http.server", "8000", "--directory", bed.lab.directory], 8000)
    with bed.engine_opens():
        for _ in range(10):
            target = os.path.join(bed.lab.directory, "fetched")
            bed.client.run(["curl", "-sS", "--fail", "-m", "10", "-o", target,
                            f"http://{SERVER}:8000/file.bin"])
            with open(target, "rb") as file:
                check(hashlib.sha256(file.read()).digest() == hashlib.sha256(content).digest(),
                      "the file differs")
        missing = bed.client.run(["curl", "-s", "-o", os.devnull, "-w", "%{http_code}",
                                  f"http://{SERVER}:8000/missing"])
        check(missing.stdout == "404", f"got {missing.stdout} for a missing file")


@case
def asyncio_server(bed):
    bed.serve([PYTHON, write_script(bed, "asyncio_echo.py", ASYNCIO_ECHO)], 8001)
    with bed.engine_opens():
        bed.load("echoload", "--server", f"{SERVER}:8001", "-c", "20", "-n", "10000")
        bed.load("echoload", "--server", f"{SERVER}:8001", "-c", "4", "--size", "300000",
                 "--depth", "2", "-n", "200")


harness.main()
