"""Socket programs whose engine is killed and comes back, in steps that preload_test.py plays."""
import errno
import select
import socket
import sys
import threading
import time

from preload_base import listener, pair


def ask(what):
    print(what, flush=True)
    assert sys.stdin.readline() == "done\n"


def segments_mapped():
    with open("/proc/self/maps") as maps:
        return sum("memfd:segment" in line for line in maps)


def death_of_blocked(server, client):
    """A blocked reader, an epoll waiter and a writer learn of it; the listener serves on."""
    ls = listener(server)
    pairs = []
    for _ in range(3):
        c = socket.create_connection(client[:2])
        pairs.append((c, ls.accept()[0]))
    results = []

    def reader():
        try:
            results.append(pairs[0][0].recv(10))
        except OSError as e:
            results.append(e.errno)

    def waiter():
        ep = select.epoll()
        ep.register(pairs[1][0], select.EPOLLIN)
        results.append(ep.poll(20)[0][1])
    threads = [threading.Thread(target=reader), threading.Thread(target=waiter)]
    for t in threads:
        t.start()
    time.sleep(0.2)
    ask("kill engine")
    for t in threads:
        t.join()
    assert errno.ECONNRESET in results, results
    assert any(r & select.EPOLLERR and r & select.EPOLLHUP for r in results), results
    try:
        pairs[2][0].send(b"x")
        assert False
    except ConnectionResetError:
        pass
    try:
        pairs[2][0].send(b"x")
        assert False
    except BrokenPipeError:
        pass
    # Behind the last connection the dead engine's memory goes.
    assert segments_mapped() == 1
    for s in pairs[0] + pairs[1] + pairs[2]:
        s.close()
    assert segments_mapped() == 0
    # Through the kernel, on the same listener, blocking accept.
    k = socket.create_connection(("127.0.0.1", server[1]))
    a, _ = ls.accept()
    k.sendall(b"kernel")
    assert a.recv(10) == b"kernel"
    # The engine is back: a waiting accept registers again, kernel connections live on.
    ask("start engine")
    got = []
    t = threading.Thread(target=lambda: got.append(ls.accept()[0]))
    t.start()
    for _ in range(100):
        time.sleep(0.1)
        try:
            c = socket.create_connection(client[:2], timeout=5)
            break
        except OSError as e:
            last = e
    else:
        raise last
    t.join()
    c.sendall(b"again")
    assert got[0].recv(10) == b"again"
    k.sendall(b"still")
    assert a.recv(10) == b"still"


def death_in_epoll(server, client):
    """An epoll server: its connections end, it serves the kernel, then the new engine."""
    ls = listener(server)
    ls.setblocking(False)
    ep = select.epoll()
    ep.register(ls, select.EPOLLIN)
    conns = {}
    counts = {"accept": 0, "end": 0, "echo": 0}

    def serve():
        while counts["end"] < 4:
            for fd, events in ep.poll(0.5):
                if fd == ls.fileno():
                    try:
                        a, _ = ls.accept()
                    except BlockingIOError:
                        continue
                    counts["accept"] += 1
                    conns[a.fileno()] = a
                    ep.register(a, select.EPOLLIN)
                    continue
                try:
                    data = conns[fd].recv(100)
                except ConnectionResetError:
                    data = b""
                if data:
                    conns[fd].sendall(data)
                    counts["echo"] += 1
                    continue
                ep.unregister(fd)
                conns.pop(fd).close()
                counts["end"] += 1
    t = threading.Thread(target=serve)
    t.start()

    def once(address):
        c = socket.create_connection(address, timeout=5)
        c.settimeout(5)
        c.sendall(b"ping")
        assert c.recv(10) == b"ping"
        return c
    c1, c2 = once(client[:2]), once(client[:2])
    ask("kill engine")
    for _ in range(100):
        if counts["end"] == 2:
            break
        time.sleep(0.05)
    assert counts["end"] == 2, counts
    k = once(("127.0.0.1", server[1]))
    ask("start engine")
    for _ in range(50):
        time.sleep(0.1)
        try:
            c3 = once(client[:2])
            break
        except OSError as e:
            last = e
    else:
        raise last
    k.sendall(b"x")
    assert k.recv(1) == b"x"
    k.close()
    c3.close()
    t.join()
    assert counts["accept"] == 4, counts
    c1.close()
    c2.close()


def death_of_poller(server, client):
    """One that looks for bytes now and then, and never waits, learns of it."""
    c, a = pair(server, client)
    c.sendall(b"x")
    assert a.recv(1) == b"x"
    ask("kill engine")
    for _ in range(100):
        try:
            assert a.recv(1, socket.MSG_DONTWAIT) == b"never"
        except BlockingIOError:
            time.sleep(0.02)
            continue
        except ConnectionResetError:
            break
    else:
        assert False, "not told"
    a.close()
    c.close()


def death_of_writer(server, client):
    """One that only writes, now and then, and whose peer has ended its direction, learns of it."""
    c, a = pair(server, client)
    c.shutdown(socket.SHUT_WR)
    assert a.recv(1) == b""
    a.sendall(b"x")
    assert c.recv(1) == b"x"
    ask("kill engine")
    failures = []
    for _ in range(100):
        try:
            a.send(b"x")
        except OSError as e:
            failures.append(e.errno)
            if len(failures) == 2:
                break
        time.sleep(0.05)
    assert failures == [errno.ECONNRESET, errno.EPIPE], failures
    a.close()
    c.close()
