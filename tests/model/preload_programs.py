"""Small socket programs. Each is a function of (server address, client address): run under libtoe
with the fake engine both ends are offloaded, run plain both are the kernel's. They assert for
themselves, so that the same program proves the same behaviour on both.
"""
import array
import asyncio
import errno
import faulthandler
import fcntl
import hashlib
import os
import random
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time

from preload_base import listener, pair
from preload_death import death_in_epoll, death_of_blocked, death_of_poller, death_of_writer


def basic(server, client):
    c, a = pair(server, client)
    c.sendall(b"hello")
    assert a.recv(100) == b"hello"
    a.sendall(b"world")
    assert c.recv(3, socket.MSG_PEEK) == b"wor"
    assert c.recv(3) == b"wor"
    n = array.array("i", [0])
    fcntl.ioctl(c.fileno(), termios.FIONREAD, n)
    assert n[0] == 2, n
    assert c.recv(100) == b"ld"
    c.setblocking(False)
    try:
        c.recv(1)
        assert False
    except BlockingIOError:
        pass
    c.setblocking(True)
    a.sendmsg([b"ab", b"", b"cde"])
    first, second = bytearray(2), bytearray(10)
    assert c.recvmsg_into([first, second])[0] == 5
    assert first == b"ab" and second[:3] == b"cde"
    c.shutdown(socket.SHUT_WR)
    assert a.recv(10) == b""
    a.sendall(b"after")
    assert c.recv(100) == b"after"
    a.close()
    assert c.recv(100) == b""
    c.close()


def bulk(server, client):
    c, a = pair(server, client)
    data = random.Random(7).randbytes(6_000_000)
    got = []

    def reader():
        h = hashlib.sha256()
        total = 0
        while True:
            piece = a.recv(random.randint(1, 200_000))
            if not piece:
                break
            total += len(piece)
            h.update(piece)
        got.append((total, h.hexdigest()))
        a.sendall(b"x" * 1_000_000)
        a.close()
    t = threading.Thread(target=reader)
    t.start()
    view = memoryview(data)
    while view:
        n = c.send(view[:random.randint(1, 300_000)])
        view = view[n:]
    c.shutdown(socket.SHUT_WR)
    total = 0
    while True:
        piece = c.recv(65536)
        if not piece:
            break
        total += len(piece)
    t.join()
    assert got == [(len(data), hashlib.sha256(data).hexdigest())], got[0][0]
    assert total == 1_000_000
    c.close()


def waitall(server, client):
    c, a = pair(server, client)

    def later():
        for i in range(10):
            time.sleep(0.01)
            c.sendall(b"%d" % i * 10)
    t = threading.Thread(target=later)
    t.start()
    assert a.recv(100, socket.MSG_WAITALL) == b"".join(b"%d" % i * 10 for i in range(10))
    t.join()
    a.settimeout(None)
    a.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 100_000))
    start = time.monotonic()
    try:
        a.recv(1)
        assert False
    except BlockingIOError:
        pass
    assert 0.09 < time.monotonic() - start < 5
    c.send(b"abcdef")
    time.sleep(0.05)
    assert a.recv(3, socket.MSG_TRUNC) is not None
    assert a.recv(10) == b"def"
    c.close()
    a.close()


def epoll_echo(server, client, edge=False):
    ls = listener(server)
    ls.setblocking(False)
    ep = select.epoll()
    ep.register(ls.fileno(), select.EPOLLIN)
    wake_r, wake_w = os.pipe()
    ep.register(wake_r, select.EPOLLIN)
    conns, out, done = {}, {}, [0]

    def flush(fd):
        try:
            while out[fd]:
                n = conns[fd].send(out[fd])
                out[fd] = out[fd][n:]
        except BlockingIOError:
            pass
        flags = select.EPOLLIN | (select.EPOLLET if edge else 0)
        if edge or out[fd]:
            flags |= select.EPOLLOUT
        if not edge:
            ep.modify(fd, flags)

    def serve():
        while True:
            for fd, events in ep.poll():
                if fd == wake_r:
                    return
                if fd == ls.fileno():
                    while True:
                        try:
                            a, _ = ls.accept()
                        except BlockingIOError:
                            break
                        a.setblocking(False)
                        conns[a.fileno()] = a
                        out[a.fileno()] = b""
                        flags = select.EPOLLIN
                        if edge:
                            flags |= select.EPOLLET | select.EPOLLOUT
                        ep.register(a.fileno(), flags)
                    continue
                a = conns[fd]
                if events & select.EPOLLOUT:
                    flush(fd)
                if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                    ended = False
                    while len(out[fd]) < 1_000_000 or edge:
                        try:
                            piece = a.recv(50_000)
                        except BlockingIOError:
                            break
                        if not piece:
                            ended = True
                            break
                        out[fd] += piece
                        if not edge:
                            break
                    flush(fd)
                    if ended:
                        done[0] += 1
                        ep.unregister(fd)
                        a.close()
                        del conns[fd], out[fd]
    st = threading.Thread(target=serve)
    st.start()
    failures = []

    def run(seed):
        try:
            rng = random.Random(seed)
            c = socket.create_connection(client[:2])
            for _ in range(60):
                data = rng.randbytes(rng.choice([1, 10, 1000, 20_000, 150_000]))
                t = threading.Thread(target=c.sendall, args=(data,))
                t.start()
                got = b""
                while len(got) < len(data):
                    piece = c.recv(100_000)
                    assert piece
                    got += piece
                assert got == data
                t.join()
            c.close()
        except BaseException as e:
            failures.append(repr(e))
    ts = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    assert not failures, failures
    for _ in range(200):
        if done[0] == 8:
            break
        time.sleep(0.02)
    assert done[0] == 8
    os.write(wake_w, b"x")
    st.join()
    ls.close()
    ep.close()


def epoll_edge(server, client):
    epoll_echo(server, client, edge=True)


def pollers(server, client):
    c, a = pair(server, client)
    p = select.poll()
    p.register(a.fileno(), select.POLLIN)
    assert p.poll(0) == []
    start = time.monotonic()
    assert p.poll(50) == []
    assert time.monotonic() - start >= 0.049
    r, w = os.pipe()
    p.register(r, select.POLLIN)
    threading.Timer(0.05, os.write, (w, b"x")).start()
    assert p.poll(5000) == [(r, select.POLLIN)]
    os.read(r, 1)
    threading.Timer(0.05, c.sendall, (b"y",)).start()
    assert p.poll(5000) == [(a.fileno(), select.POLLIN)]
    assert select.select([a, r], [a], [], 5) == ([a], [a], [])
    assert a.recv(1) == b"y"
    assert select.select([a, r], [], [], 0.01) == ([], [], [])
    c.close()
    p2 = select.poll()
    p2.register(a.fileno(), select.POLLIN | select.POLLOUT | select.POLLRDHUP)
    time.sleep(0.05)
    assert p2.poll(1000) == [(a.fileno(), select.POLLIN | select.POLLOUT | select.POLLRDHUP)]
    a.close()


def nonblocking_connect(server, client):
    ls = listener(server)
    c = socket.socket()
    c.setblocking(False)
    ep = select.epoll()
    ep.register(c.fileno(), select.EPOLLOUT | select.EPOLLIN)  # before connect
    ep.poll(0)
    rc = c.connect_ex(client[:2])
    assert rc in (0, errno.EINPROGRESS), rc
    for _ in range(100):
        events = ep.poll(5)
        if events and not events[0][1] & select.EPOLLHUP:
            break
    assert events == [(c.fileno(), select.EPOLLOUT)], events
    assert c.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert c.connect_ex(client[:2]) in (0, errno.EISCONN)
    assert c.connect_ex(client[:2]) == errno.EISCONN
    a, _ = ls.accept()
    a.send(b"z")
    for _ in range(1000):
        if ep.poll(5)[0][1] & select.EPOLLIN:
            break
        time.sleep(0.005)
    assert c.recv(1) == b"z"
    c.close()
    a.close()
    ls.close()


def refused(server, client):
    c = socket.socket()
    try:
        c.connect((client[0], 9))
        assert False
    except ConnectionRefusedError:
        pass
    c.close()
    c = socket.socket()
    c.setblocking(False)
    assert c.connect_ex((client[0], 9)) in (errno.EINPROGRESS, errno.ECONNREFUSED)
    p = select.poll()
    p.register(c, select.POLLOUT)
    fired = p.poll(5000)
    assert fired and fired[0][1] & select.POLLOUT and fired[0][1] & select.POLLERR
    assert c.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in (errno.ECONNREFUSED, 0)
    assert c.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    c.close()


def resets(server, client):
    c, a = pair(server, client)
    c.sendall(b"unread")
    time.sleep(0.05)
    a.close()  # unread data: reset
    time.sleep(0.05)
    try:
        c.recv(10)
        assert False
    except ConnectionResetError:
        pass
    assert c.recv(10) == b""
    try:
        c.send(b"x")
        assert False
    except BrokenPipeError:
        pass
    c.close()
    c, a = pair(server, client)
    a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert a.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == struct.pack("ii", 1, 0)
    a.close()
    time.sleep(0.05)
    assert c.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET
    c.close()


def sigpipe(server, client):
    c, a = pair(server, client)
    c.shutdown(socket.SHUT_WR)
    hits = []
    old = signal.signal(signal.SIGPIPE, lambda *_: hits.append(1))
    try:
        os.write(c.fileno(), b"x")
        assert False
    except BrokenPipeError:
        pass
    time.sleep(0)  # Python runs handlers between calls
    assert hits == [1]
    try:
        c.send(b"x", socket.MSG_NOSIGNAL)
        assert False
    except BrokenPipeError:
        pass
    assert hits == [1]
    signal.signal(signal.SIGPIPE, old)
    c.close()
    a.close()


def interrupted(server, client):
    c, a = pair(server, client)

    class Hit(Exception):
        pass

    def handler(*_):
        raise Hit
    signal.signal(signal.SIGALRM, handler)  # Python: without SA_RESTART
    for call in (lambda: c.recv(1), lambda: select.select([c], [], []),
                 lambda: select.poll().poll(None) if False else selectors_wait(c)):
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        start = time.monotonic()
        try:
            call()
            assert False
        except Hit:
            pass
        assert time.monotonic() - start < 5
    c.close()
    a.close()


def selectors_wait(c):
    s = selectors.DefaultSelector()
    s.register(c, selectors.EVENT_READ)
    return s.select()


def options(server, client):
    c, a = pair(server, client)
    for s in (c, a):
        assert s.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
        assert s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0
        for name in ("TCP_NODELAY", "TCP_CORK"):
            for value in (1, 0):
                s.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
                assert s.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value
        assert s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7200
        assert s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 75
        assert s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 9
        for name, value in (("TCP_KEEPIDLE", 11), ("TCP_KEEPINTVL", 12), ("TCP_KEEPCNT", 13),
                            ("TCP_USER_TIMEOUT", 1400)):
            s.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            assert s.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value
        try:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 1000)
            assert False
        except OSError as e:
            assert e.errno == errno.EINVAL
        s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        assert s.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 131072
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        assert s.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 131072
        info = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 248)
        assert info[0] == 1 and len(info) >= 104, len(info)
    flags = fcntl.fcntl(c, fcntl.F_GETFL)
    assert not flags & os.O_NONBLOCK
    fcntl.fcntl(c, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    assert fcntl.fcntl(c, fcntl.F_GETFL) & os.O_NONBLOCK
    ls = listener((server[0], server[1] + 1))
    assert not fcntl.fcntl(ls, fcntl.F_GETFL) & os.O_NONBLOCK
    assert ls.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    ls.setblocking(False)
    assert fcntl.fcntl(ls, fcntl.F_GETFL) & os.O_NONBLOCK
    try:
        ls.accept()
        assert False
    except BlockingIOError:
        pass
    ls.close()
    c.close()
    a.close()


def inherited_options(server, client):
    ls = socket.socket()
    ls.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    ls.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    ls.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ls.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 33)
    ls.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 50_000)
    ls.bind(("0.0.0.0", server[1]))
    ls.listen()
    c = socket.create_connection(client[:2])
    a, _ = ls.accept()
    assert a.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert a.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    assert a.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 33
    assert a.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 100_000
    for s in (ls, c, a):
        s.close()


def dups(server, client):
    c, a = pair(server, client)
    fd = os.dup(c.fileno())
    c.close()
    assert os.write(fd, b"by dup") == 6
    assert a.recv(10) == b"by dup"
    r, w = os.pipe()
    os.dup2(fd, r)
    os.close(fd)
    os.write(r, b"by dup2")
    assert a.recv(10) == b"by dup2"
    again = fcntl.fcntl(r, fcntl.F_DUPFD_CLOEXEC, 200)
    assert again >= 200
    os.close(r)
    os.write(again, b"by fcntl")
    assert a.recv(10) == b"by fcntl"
    os.closerange(again, again + 1)
    assert a.recv(10) == b""
    os.close(w)
    a.close()


def forks(server, client):
    ls = listener(server)
    c = socket.create_connection(client[:2])
    a, _ = ls.accept()
    pid = os.fork()
    if pid == 0:
        try:
            ls.close()
            c.close()
            assert a.recv(10) == b"to child"
            a.sendall(b"from child")
            os._exit(0)
        finally:
            os._exit(1)
    a.close()  # the child holds it
    c.sendall(b"to child")
    assert c.recv(20) == b"from child"
    assert os.waitpid(pid, 0)[1] == 0
    assert c.recv(1) == b""
    # A child that exits closes nothing of its parent's.
    c2 = socket.create_connection(client[:2])
    a2, _ = ls.accept()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    time.sleep(0.1)
    c2.sendall(b"still")
    assert a2.recv(10) == b"still"
    # Prefork: children accept from the parent's listener.
    pids = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            try:
                s, _ = ls.accept()
                s.sendall(b"%d" % os.getpid())
                s.close()
                os._exit(0)
            finally:
                os._exit(1)
        pids.append(pid)
    seen = set()
    for _ in range(3):
        s = socket.create_connection(client[:2])
        seen.add(int(s.recv(20)))
        s.close()
    assert seen == set(pids), (seen, pids)
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
    for s in (ls, c, c2, a2):
        s.close()


def spawns(server, client):
    """A child between vfork and exec closes descriptors; they are its own."""
    c, a = pair(server, client)
    for close_fds in (True, False):
        for _ in range(5):
            assert subprocess.run(["true"], close_fds=close_fds).returncode == 0
    pid = os.posix_spawn("/bin/true", ["true"], {}, file_actions=[
        (os.POSIX_SPAWN_CLOSE, a.fileno()), (os.POSIX_SPAWN_CLOSE, c.fileno())])
    assert os.waitpid(pid, 0)[1] == 0
    c.sendall(b"still here")
    assert a.recv(20) == b"still here"
    c.close()
    assert a.recv(20) == b""
    a.close()


def passing(server, client):
    c, a = pair(server, client)
    left, right = socket.socketpair(socket.AF_UNIX)
    pid = os.fork()
    if pid == 0:
        try:
            a.close()
            c.close()
            _, fds, _, _ = socket.recv_fds(right, 10, 1)
            s = socket.socket(fileno=fds[0])
            assert s.recv(10) == b"passed"
            s.sendall(b"thanks")
            os._exit(0)
        finally:
            os._exit(1)
    socket.send_fds(left, [b"x"], [a.fileno()])
    a.close()  # before the receiver has it
    c.sendall(b"passed")
    assert c.recv(10) == b"thanks"
    assert os.waitpid(pid, 0)[1] == 0
    start = time.monotonic()
    s = selectors.DefaultSelector()  # the sender's hold ends while it waits for something else
    s.register(c, selectors.EVENT_READ)
    assert s.select(10) and c.recv(1) == b"" and time.monotonic() - start < 5
    c.close()


def execs(server, client):
    c, a = pair(server, client)
    pid = os.fork()
    if pid == 0:
        os.set_inheritable(a.fileno(), True)
        os.execv(sys.executable, [sys.executable, "-c",
                 "import socket,sys; s = socket.socket(fileno=int(sys.argv[1]));"
                 "assert s.recv(10) == b'execed'; s.sendall(b'yes')", str(a.fileno())])
    a.close()
    c.sendall(b"execed")
    got = c.recv(10)
    assert got == b"yes", got
    assert os.waitpid(pid, 0)[1] == 0
    assert c.recv(10) == b""
    c.close()


def threads_on_one(server, client):
    """Several threads in one epoll instance and on one socket."""
    c, a = pair(server, client)
    ep = select.epoll()
    a.setblocking(False)
    ep.register(a.fileno(), select.EPOLLIN | select.EPOLLONESHOT)
    total = [0]
    lock = threading.Lock()
    stop = []

    def worker():
        while not stop:
            for fd, events in ep.poll(0.2):
                while True:
                    try:
                        n = len(a.recv(1000))
                    except BlockingIOError:
                        break
                    if n == 0:
                        stop.append(1)
                        break
                    with lock:
                        total[0] += n
                ep.modify(fd, select.EPOLLIN | select.EPOLLONESHOT)
    ts = [threading.Thread(target=worker) for _ in range(4)]
    for t in ts:
        t.start()
    for i in range(300):
        c.sendall(b"x" * 777)
        if i % 50 == 0:
            time.sleep(0.01)
    c.shutdown(socket.SHUT_WR)
    for t in ts:
        t.join()
    assert total[0] == 300 * 777, total
    c.close()
    a.close()


def many_blocked(server, client):
    """More blocked threads than a process has contexts (64): all wake."""
    ls = listener(server, 200)
    pairs = []
    for _ in range(100):
        c = socket.create_connection(client[:2])
        pairs.append((c, ls.accept()[0]))
    got = []
    ts = [threading.Thread(target=lambda a=a: got.append(a.recv(10))) for _, a in pairs]
    for t in ts:
        t.start()
    time.sleep(0.3)
    for c, _ in pairs:
        c.sendall(b"up")
    for t in ts:
        t.join()
    assert got == [b"up"] * 100
    for c, a in pairs:
        c.close()
        a.close()
    ls.close()


def shutdown_wakes(server, client):
    c, a = pair(server, client)
    threading.Timer(0.1, a.shutdown, (socket.SHUT_RD,)).start()
    assert a.recv(10) == b""
    ls = listener((server[0], server[1] + 2))
    threading.Timer(0.1, ls.shutdown, (socket.SHUT_RD,)).start()
    try:
        ls.accept()
        assert False
    except OSError as e:
        assert e.errno == errno.EINVAL, e
    for s in (c, a, ls):
        s.close()


def asyncio_echo(server, client):
    async def main():
        async def handle(reader, writer):
            while data := await reader.read(10_000):
                writer.write(data)
                await writer.drain()
            writer.close()
        srv = await asyncio.start_server(handle, "0.0.0.0", server[1])

        async def one(i):
            reader, writer = await asyncio.open_connection(client[0], client[1])
            data = random.Random(i).randbytes(300_000)
            writer.write(data)
            got = await reader.readexactly(len(data))
            assert got == data
            writer.close()
            await writer.wait_closed()
        await asyncio.gather(*(one(i) for i in range(10)))
        srv.close()
        await srv.wait_closed()
    asyncio.run(main())


def sendfiles(server, client):
    c, a = pair(server, client)
    data = random.Random(3).randbytes(500_000)
    with open("/tmp/libtoe-sendfile-%d" % os.getpid(), "w+b") as f:
        os.unlink(f.name)
        f.write(data)
        f.seek(0)
        t = threading.Thread(target=c.sendfile, args=(f,))
        t.start()
        got = b""
        while len(got) < len(data):
            got += a.recv(100_000)
        t.join()
    assert got == data
    c.close()
    a.close()


def ping_pong(server, client):
    """Many small waits: a lost wake-up would hang."""
    c, a = pair(server, client)

    def echo():
        while data := a.recv(64):
            a.sendall(data)
    t = threading.Thread(target=echo)
    t.start()
    for i in range(5000):
        c.sendall(b"%064d" % i)
        assert c.recv(64, socket.MSG_WAITALL) == b"%064d" % i
        if i % 1000 == 0:
            time.sleep(0.005)
    c.close()
    t.join()
    a.close()


DEATH = [death_of_blocked, death_in_epoll, death_of_poller, death_of_writer]
BULKY = [bulk, epoll_echo, epoll_edge, asyncio_echo, sendfiles]
ALL = [basic, bulk, waitall, epoll_echo, epoll_edge, pollers, nonblocking_connect, refused, resets,
       sigpipe, interrupted, options, inherited_options, dups, forks, spawns, passing, execs,
       threads_on_one, many_blocked, shutdown_wakes, asyncio_echo, sendfiles, ping_pong]

if __name__ == "__main__":
    faulthandler.dump_traceback_later(50, exit=True)
    program = globals()[sys.argv[1]]
    server_port = int(sys.argv[3])
    program(("0.0.0.0", server_port), (sys.argv[2], server_port))
    print("ok", sys.argv[1])
