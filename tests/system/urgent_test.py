#!/usr/bin/env python3
"""Urgent data as Linux has it: every call answers the same on the kernel and on the engine."""
import fcntl
import socket
import struct

import harness
from agent import LIMIT, compare, outcome, peer_events, settled, tell
from harness import case, check, receive_exactly, wait_for

OOB = socket.MSG_OOB
INLINE = "SOL_SOCKET, SO_OOBINLINE, 1"
SIOCATMARK = 0x8905


def look(agent):
    agent("events()")
    agent("mark()")
    agent("unread()")


def byte_beside_the_stream(agent, peer):
    agent("oob()")
    agent("mark()")
    tell(peer, b"abU", OOB)
    look(agent)
    agent("select.select([], [], [c], 0)[2] == [c]")
    agent("oob(MSG_PEEK)")
    agent("take(1)")
    look(agent)
    agent("take()")
    look(agent)
    agent("c.recvmsg(3, 0, MSG_OOB)[::2]")
    agent("oob()")
    look(agent)
    agent("select.select([], [], [c], 0)[2] == []")
    tell(peer, b"cd")
    look(agent)
    agent("take()")
    look(agent)
    agent("take()")
    agent("oob()")


def byte_nobody_takes(agent, peer):
    tell(peer, b"abU", OOB)
    tell(peer, b"cd")
    agent("take(100, MSG_PEEK)")
    agent("take()")
    look(agent)
    agent("take(100, MSG_PEEK)")
    agent("mark()")
    agent("take(1)")
    look(agent)
    agent("oob()")
    agent("take()")
    tell(peer, b"V", OOB)
    look(agent)
    agent("take()")  # passes it over
    look(agent)
    agent("oob()")


def byte_in_the_stream(agent, peer):
    agent("c.getsockopt(SOL_SOCKET, SO_OOBINLINE)")
    tell(peer, b"abU", OOB)
    tell(peer, b"cd")
    look(agent)
    agent("oob()")
    agent("take()")
    look(agent)
    agent("take(1)")
    look(agent)
    agent("take()")
    tell(peer, b"V", OOB)
    look(agent)
    agent("c.setsockopt(SOL_SOCKET, SO_OOBINLINE, 0)")
    look(agent)
    agent("oob()")


def newer_bytes_before_reading(agent, peer):
    for first in (b"ab1", b"2"):
        tell(peer, first, OOB)
    tell(peer, b"cd")
    look(agent)
    agent("oob()")
    for _ in range(3):
        agent("take()")
        look(agent)
    tell(peer, b"xy3", OOB)
    agent("take(2)")  # now it stands before the third
    tell(peer, b"pq4", OOB)
    look(agent)
    for _ in range(3):
        agent("take()")
        look(agent)


def newer_bytes_at_the_mark(agent, peer):
    for first in (b"1", b"2", b"3"):
        tell(peer, first, OOB)
        look(agent)
    agent("take(100, MSG_PEEK)")
    agent("oob()")
    tell(peer, b"x")
    look(agent)
    agent("take()")
    tell(peer, b"4", OOB)
    agent("oob()")
    tell(peer, b"5", OOB)  # the taken one counts like the others
    look(agent)
    tell(peer, b"rest")
    agent("oob()")
    agent("take()")
    agent("take()")


def newer_byte_at_the_mark_in_line(agent, peer):
    for first in (b"1", b"2", b"xy3", b"z"):
        tell(peer, first, OOB if first != b"z" else 0)
        look(agent)
    for _ in range(3):
        agent("take()")
        look(agent)


def blocking_reads_stop(agent, peer):
    tell(peer, b"abU", OOB)
    tell(peer, b"cdefgh")
    agent("c.recv(8, MSG_WAITALL)")
    agent("c.recv(6, MSG_WAITALL)")
    tell(peer, b"V", OOB)
    agent.start("c.recv(4)")
    peer.send(b"more")
    agent.finish("recv that begins at the mark")
    tell(peer, b"W", OOB)
    agent("c.setsockopt(SOL_SOCKET, SO_RCVTIMEO, struct.pack('ll', 0, 300000))")
    agent("took(lambda: c.recv(4))[0]")
    look(agent)


def end_behind(agent, peer):
    tell(peer, b"abU", OOB)
    peer.shutdown(socket.SHUT_WR)
    agent("events(10000, 0x2000)")
    agent("take()")
    look(agent)
    agent("oob(MSG_PEEK)")
    agent("take()")
    look(agent)
    agent("oob()")
    agent("take()")


def reset_behind(agent, peer):
    tell(peer, b"abU", OOB)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    agent("until(lambda: 'HUP' in events().split())")
    agent("oob()")
    agent("c.getsockopt(SOL_SOCKET, SO_ERROR)")


def epoll_reports(agent, peer):
    agent("(e := select.epoll()) and e.register(c, select.EPOLLPRI)")
    agent("e.poll(0)")
    tell(peer, b"plain")
    agent("e.poll(0)")
    peer.send(b"U", OOB)
    agent("[bits for _, bits in e.poll(10)]")
    agent("oob()")
    agent("e.poll(0)")
    agent("e.modify(c, select.EPOLLPRI | select.EPOLLIN | select.EPOLLET)")
    agent("[bits for _, bits in e.poll(0)]")
    peer.send(b"V", OOB)
    agent("[bits for _, bits in e.poll(10)]")
    agent("e.poll(0)")
    agent("take(), take(1)")
    agent("e.close()")


def peer_look(agent, peer):
    agent.note("peer's events", peer_events(peer))
    agent.note("peer's mark", struct.unpack("i", fcntl.ioctl(peer, SIOCATMARK, bytes(4))))


def peer_takes(agent, peer, count=100, flags=0):
    agent.note("peer takes", outcome(lambda: peer.recv(count, flags | socket.MSG_DONTWAIT)))
    peer_look(agent, peer)


def sent_by_the_program(agent, peer):
    agent("c.send(b'abU', MSG_OOB)")
    agent.sent()
    peer_look(agent, peer)
    peer_takes(agent, peer)
    peer_takes(agent, peer, 1, OOB)
    peer_takes(agent, peer, 1, OOB)
    agent("c.send(b'cd')")
    agent.sent()
    peer_takes(agent, peer)
    agent("c.setsockopt(IPPROTO_TCP, TCP_CORK, 1)")
    agent("c.send(b'held')")
    agent("c.send(b'V', MSG_OOB)")  # urgent data waits for nothing
    agent.note("peer learns", peer_events(peer, wait_ms=LIMIT * 1000))
    agent.sent()
    peer_takes(agent, peer)
    peer_takes(agent, peer, 1, OOB)
    agent("c.setsockopt(IPPROTO_TCP, TCP_CORK, 0)")
    for byte in "12":
        agent(f"c.send(b'{byte}', MSG_OOB)")
        agent.sent()
    agent("c.send(b'z')")
    agent.sent()
    peer_takes(agent, peer, 1, OOB)
    peer_takes(agent, peer)
    peer_takes(agent, peer)
    agent("c.send(b'last', MSG_OOB)")
    agent("c.shutdown(SHUT_WR)")
    agent("c.send(b'x', MSG_OOB)")
    agent.sent()
    peer_takes(agent, peer)
    peer_takes(agent, peer, 1, OOB)
    peer_takes(agent, peer)


def until_oob(peer):
    wait_for(lambda: outcome(lambda: peer.recv(1, OOB)) != "EINVAL", LIMIT, "the pointer")
    return outcome(lambda: peer.recv(1, OOB))


def closed_window(agent, peer):
    """The pointer overtakes what the window holds back; the byte comes in its turn."""
    held = int(agent.ask("fill()"))
    agent.note("peer's urgent data", outcome(lambda: peer.recv(1, OOB)))
    agent("c.send(b'U', MSG_OOB)")
    agent.note("announced", until_oob(peer))
    data = b""
    while len(data) < held and (more := peer.recv(1 << 16)):
        data += more
    check(data.strip(bytes(1)) == b"", "wrong bytes")
    wait_for(lambda: peer_events(peer, harness.select.POLLPRI), LIMIT, "the urgent byte")
    agent.note("peer's urgent data", outcome(lambda: peer.recv(1, OOB)))


def marks_in_a_long_stream(agent, peer):
    """Each part ends with an urgent byte that the reader takes before the next is sent: the marks
    stand where they were set, whatever rings the bytes pass through."""
    for number, size in enumerate((1, 9000, 40_000, 150_000, 3, 400_000, 70_000)):
        agent.start("read_to_mark()")
        peer.sendall(bytes([number]) * size)
        peer.send(b"!", OOB)
        agent.finish(f"part of {size}")
    settled(peer)
    agent("take()")


def inherited_by_accept(agent, peer):
    agent("c.getsockopt(SOL_SOCKET, SO_OOBINLINE)")
    tell(peer, b"abU", OOB)
    agent("take()")
    agent("take()")


def signal_to_the_owner(agent, peer):
    agent("signal.signal(signal.SIGURG, lambda *_: urged.append(1)) and None")
    agent("fcntl.fcntl(c, fcntl.F_SETOWN, os.getpid())")
    tell(peer, b"plain")
    agent("len(urged)")
    for count in range(1, 5):
        tell(peer, b"U", OOB)
        agent(f"until(lambda: len(urged) == {count})")
        tell(peer, b"plain")
    agent("oob()")
    agent("len(urged)")
    agent("fcntl.fcntl(c, fcntl.F_SETOWN, 0)")
    tell(peer, b"V", OOB)
    agent("time.sleep(0.2)")
    agent("len(urged)")


def signal_without_handler(agent, peer):
    agent("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGURG]) and None")
    agent("fcntl.ioctl(c, 0x8901, struct.pack('i', os.getpid())) and None")  # FIOSETOWN
    for _ in range(3):
        tell(peer, b"U", OOB)
        agent("signal.sigtimedwait([signal.SIGURG], 10).si_signo == signal.SIGURG")
        agent("oob()")


for _play in (byte_beside_the_stream, byte_nobody_takes, newer_bytes_before_reading,
              newer_bytes_at_the_mark, blocking_reads_stop, end_behind, reset_behind,
              epoll_reports, signal_to_the_owner, signal_without_handler, sent_by_the_program,
              closed_window, marks_in_a_long_stream):
    def _case(bed, play=_play):
        compare(bed, play)
    _case.__name__ = _play.__name__
    case(_case)

for _play in (byte_in_the_stream, newer_byte_at_the_mark_in_line, inherited_by_accept):
    def _inline(bed, play=_play):
        compare(bed, play, options=(INLINE,))
    _inline.__name__ = _play.__name__
    case(_inline)


harness.main()
