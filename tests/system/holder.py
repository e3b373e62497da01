"""holder.py SOCKET: attaches to an engine, says whether it could, and holds on."""
import sys
import time

import raw_client

client = raw_client.Client(sys.argv[1])
try:
    client.hello()
    print("attached", flush=True)
except (raw_client.Ended, OSError):
    print("no", flush=True)
time.sleep(60)
