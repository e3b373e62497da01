#!/usr/bin/env python3
"""SYNs with forged sources at full rate beside connections that must not suffer."""
import harness
from harness import CLIENT, CLIENT_DEV, SERVER, SERVER_DEV, case, check, client_program, echo_server

PORT = 7007
SOURCES = "198.18.0.0"  # a /15 that leads back to the client side, where nobody answers


def mac(namespace, device):
    words = namespace.ip("-o", "link", "show", device).split()
    return words[words.index("link/ether") + 1]


def start_flood(bed, seconds, rate=50000, port=PORT):
    bed.server.ip("route", "add", f"{SOURCES}/15", "via", CLIENT, "dev", SERVER_DEV)
    return bed.client.start(
        [client_program("synflood"), "--dev", CLIENT_DEV, "--from-mac", mac(bed.client, CLIENT_DEV),
         "--to-mac", mac(bed.server, SERVER_DEV), "--to", SERVER, "--port", port,
         "--sources", SOURCES, "--rate", rate, "--seconds", seconds])


def cookies(bed):
    """(sent, received) by whoever serves."""
    if bed.engine is not None:
        counters = bed.engine.ask("stats")["counters"]
        return counters["syn_cookies_sent"], counters["syn_cookies_received"]
    with bed.server.inside(), open("/proc/thread-self/net/netstat") as file:
        names, values = [line.split()[1:] for line in file if line.startswith("TcpExt:")][:2]
    found = dict(zip(names, map(int, values)))
    return found["SyncookiesSent"], found["SyncookiesRecv"]


@case
def established_connections(bed):
    bed.serve(echo_server("level", f"{SERVER}:{PORT}"), PORT)
    flood = start_flood(bed, seconds=4)
    done = bed.load("echoload", "--server", f"{SERVER}:{PORT}", "-c", "16", "--seconds", "3")
    check(flood.wait(10) == 0, flood.output())
    check(cookies(bed)[0] > 10000, f"cookies sent and received: {cookies(bed)}")
    print(f"{done['per_s']:.0f} requests/s; {flood.output().strip()}; "
          f"cookies {cookies(bed)}")


@case
@harness.bed_options(extra_clients=2)
def new_connections(bed):
    """Every connection opened during the flood works."""
    bed.serve(echo_server("level", f"{SERVER}:{PORT}"), PORT)
    flood = start_flood(bed, seconds=4, rate=5000)
    harness.wait_for(lambda: cookies(bed)[0] > 0, 3, "the first cookie")
    bed.load("echoload", "--server", f"{SERVER}:{PORT}", "--connects", "--sources",
             "10.77.1.1-10.77.1.2", "-c", "8", "-n", "2000")
    check(flood.wait(10) == 0, flood.output())
    check(cookies(bed)[1] >= 2000, f"cookies sent and received: {cookies(bed)}")


if __name__ == "__main__":
    harness.main()
