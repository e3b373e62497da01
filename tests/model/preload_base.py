"""What the socket programs of preload_programs.py and preload_death.py share."""
import socket


def listener(address, backlog=64):
    s = socket.socket(address[2] if len(address) > 2 else socket.AF_INET)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("0.0.0.0" if s.family == socket.AF_INET else "::", address[1]))
    s.listen(backlog)
    return s


def pair(server, client):
    ls = listener(server)
    c = socket.create_connection(client[:2], timeout=10)
    c.settimeout(None)
    a, peer = ls.accept()
    assert peer == c.getsockname(), (peer, c.getsockname())
    assert a.getsockname()[1] == c.getpeername()[1] == client[1]
    ls.close()
    return c, a
