#!/usr/bin/env python3
"""Ends, timeouts and states of a connection: every call answers the same on kernel and engine."""
import errno
import select
import socket
import struct

import harness
from agent import (LIMIT, PORT, Agent, compare, drain, outcome, pause, peer_events, reset, settled,
                   tell)
from harness import CLIENT, case, check, need_engine, receive_exactly

REFUSED = ("'EOPNOTSUPP'", "'ENOTSUP'")  # one number


def await_fin(peer):
    check(peer_events(peer, select.POLLRDHUP, LIMIT * 1000), "no end from the program")


def look(agent):
    agent("events()")
    agent("tcp_state()")
    agent("unread()")


def closed_by_the_program_first(agent, peer):
    agent("tcp_state()")
    agent("c.shutdown(SHUT_WR)")
    agent.sent()
    look(agent)
    agent("c.send(b'x')")
    agent("c.shutdown(SHUT_WR)")
    tell(peer, b"late")
    look(agent)
    agent("take()")
    tell(peer, b"and later")
    peer.shutdown(socket.SHUT_WR)
    agent("until(lambda: 'RDHUP' in events())")
    agent("take()")
    agent("take()")
    agent("until(lambda: tcp_state() == 7)")
    look(agent)
    agent("c.shutdown(SHUT_WR)")
    agent("c.send(b'x')")
    agent("c.getsockopt(SOL_SOCKET, SO_ERROR)")


def closed_by_the_peer_first(agent, peer):
    tell(peer, b"last")
    peer.shutdown(socket.SHUT_WR)
    agent("until(lambda: tcp_state() == 8)")
    look(agent)
    agent("take(2)")
    agent("take()")
    agent("take()")
    agent("c.send(b'still open')")
    agent.note("peer takes", receive_exactly(peer, 10))
    agent("c.shutdown(SHUT_WR)")
    agent("until(lambda: tcp_state() == 7)")
    look(agent)
    agent("c.shutdown(SHUT_RD)")
    agent("c.send(b'x')")
    agent.note("peer", drain(peer))


def shut_for_reading(agent, peer):
    tell(peer, b"before")
    agent("c.shutdown(SHUT_RD)")
    look(agent)
    agent("take(3)")
    tell(peer, b"after")
    look(agent)
    agent("take()")
    agent("take()")
    agent("c.shutdown(SHUT_RD)")
    agent("c.send(b'out')")
    agent.note("peer takes", receive_exactly(peer, 3))
    agent("c.shutdown(SHUT_WR)")
    await_fin(peer)
    agent.note("peer sends", peer.send(b"nobody wants it"))
    agent.note("peer learns", [bits & select.POLLERR for bits in
                               peer_events(peer, 0, LIMIT * 1000)])
    agent("c.close()")


def closed_with_unread_input(agent, peer):
    tell(peer, b"never read")
    agent("c.send(b'answer')")
    agent("c.close()")
    agent.note("peer learns", [bits & select.POLLERR for bits in
                               peer_events(peer, 0, LIMIT * 1000)])
    agent.note("peer's error", errno.errorcode[peer.getsockopt(socket.SOL_SOCKET,
                                                               socket.SO_ERROR)])


def reset_by_the_peer(agent, peer):
    tell(peer, b"unread")
    reset(peer)
    agent("until(lambda: 'ERR' in events())")
    look(agent)
    agent("c.send(b'x')")
    agent("c.send(b'x')")
    agent("c.getsockopt(SOL_SOCKET, SO_ERROR)")
    agent("take()")
    agent("c.shutdown(SHUT_WR)")
    agent("c.getpeername()")


def reset_read_first(agent, peer):
    reset(peer)
    agent("until(lambda: 'ERR' in events())")
    agent("take()")
    agent("take()")
    agent("c.send(b'x')")
    look(agent)


def reset_error_taken_first(agent, peer):
    reset(peer)
    agent("until(lambda: 'ERR' in events())")
    agent("errno.errorcode[c.getsockopt(SOL_SOCKET, SO_ERROR)]")
    agent("c.getsockopt(SOL_SOCKET, SO_ERROR)")
    look(agent)
    agent("take()")
    agent("c.send(b'x')")


def reset_behind_an_end(agent, peer):
    peer.shutdown(socket.SHUT_WR)
    agent("until(lambda: tcp_state() == 8)")
    reset(peer)
    agent("until(lambda: 'ERR' in events())")
    look(agent)
    agent("c.send(b'x')")
    agent("c.send(b'x')")
    agent("take()")


def sigpipe(agent, peer):
    agent("[got := []] and signal.signal(signal.SIGPIPE, lambda *_: got.append(1)) and None")
    agent("c.shutdown(SHUT_WR)")
    agent("c.send(b'x')")
    agent("len(got)")
    agent("c.send(b'x', MSG_NOSIGNAL)")
    agent("c.sendmsg([b'x'], [], MSG_NOSIGNAL)")
    agent("len(got)")
    peer.shutdown(socket.SHUT_WR)


def orphan_delivers(agent, peer):
    """What was written before close() arrives, however slow the peer is, then the end."""
    agent("c.setblocking(False)")
    total = int(agent.ask("fill()"))
    agent("c.close()")
    size, how = drain(peer)
    agent.note("peer", (size == total, how))


def linger_waits(agent, peer):
    """close() waits for the acknowledgement, at most so long."""
    agent("c.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack('ii', 1, 1))")
    total = int(agent.ask("fill()"))
    took = agent.ask("took(c.close)[1]")
    check(0.9 < float(took) < 10, f"close() took {took} s")
    size, how = drain(peer)
    agent.note("peer", (size == total, how))


def linger_ends_with_the_acknowledgement(agent, peer):
    agent("c.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack('ii', 1, 30))")
    agent("c.send(b'quick')")
    took = agent.ask("took(c.close)[1]")
    check(float(took) < 10, f"close() took {took} s")
    agent.note("peer", drain(peer))


def linger_with_unread_input(agent, peer):
    agent("c.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack('ii', 1, 30))")
    tell(peer, b"never read")
    took = agent.ask("took(c.close)[1]")
    check(float(took) < 10, f"close() took {took} s")
    agent.note("peer learns", [bits & select.POLLERR for bits in
                               peer_events(peer, 0, LIMIT * 1000)])


def linger_of_one_among_two_processes(agent, peer):
    """What another process still holds goes on: no end of the stream, no wait."""
    agent("c.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack('ii', 1, 30))")
    agent("(h := hold_in_child()) and None")
    agent("c.send(b'parent ')")
    agent.note("peer takes", receive_exactly(peer, 7))
    took = agent.ask("took(c.close)[1]")
    check(float(took) < 10, f"close() took {took} s")
    agent.note("peer sees an end", peer_events(peer, select.POLLRDHUP, 300))
    agent("os.write(h[1], b'x')")
    agent.note("peer", drain(peer))
    agent("os.waitpid(h[0], 0)[1]")


def low_water_mark(agent, peer):
    """SO_RCVLOWAT: readiness, and what a blocking call waits for."""
    agent("(e := select.epoll()) and e.register(c, select.EPOLLIN | select.EPOLLET)")
    agent("c.setsockopt(SOL_SOCKET, SO_RCVLOWAT, 100)")
    agent("c.getsockopt(SOL_SOCKET, SO_RCVLOWAT)")
    tell(peer, bytes(60))
    agent("events()")
    agent("select.select([c], [], [], 0)[0]")
    agent("e.poll(0)")
    tell(peer, bytes(60))
    agent("events(10000, 1)")
    agent("select.select([c], [], [], 0)[0] == [c]")
    agent("[bits for _, bits in e.poll(10)]")
    agent("len(take(50))")
    agent("events()")
    agent("c.setsockopt(SOL_SOCKET, SO_RCVLOWAT, 20)")
    agent("events()")
    agent("[bits for _, bits in e.poll(10)]")
    agent("c.setsockopt(SOL_SOCKET, SO_RCVLOWAT, 100)")
    agent("len(c.recv(60))")
    agent.start("len(c.recv(1000))")
    for size in (10, 50, 60):
        pause(0.1)
        tell(peer, bytes(size))
    agent.finish("a hundred at least")
    agent("c.setsockopt(SOL_SOCKET, SO_RCVTIMEO, struct.pack('ll', 0, 200000))")
    tell(peer, bytes(30))
    agent("len(c.recv(1000))")
    agent("c.recv(1000)")
    tell(peer, bytes(10))
    peer.shutdown(socket.SHUT_WR)
    agent("until(lambda: 'RDHUP' in events())")
    agent("events()")
    agent("len(c.recv(1000))")
    agent("c.setsockopt(SOL_SOCKET, SO_RCVLOWAT, 0)")
    agent("c.getsockopt(SOL_SOCKET, SO_RCVLOWAT)")


def low_water_mark_from_before(agent, peer):
    agent("c.getsockopt(SOL_SOCKET, SO_RCVLOWAT)")
    tell(peer, bytes(60))
    agent("events()")
    tell(peer, bytes(60))
    agent("events(10000, 1)")


def connect_again(agent, peer):
    """After an attempt that failed the socket may try again, as often as it likes."""
    listener = agent.bed.listen(7003)
    nobody, there = f"('{CLIENT}', 9)", f"('{CLIENT}', 7003)"
    agent("(s := socket()) and None")
    agent(f"s.connect({nobody})")
    agent("s.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)")
    agent(f"s.connect({nobody})")
    agent(f"s.connect({there})")
    accepted, _ = listener.accept()
    agent("s.getsockopt(IPPROTO_TCP, TCP_NODELAY)")
    agent("s.send(b'hello')")
    agent.note("peer takes", receive_exactly(accepted, 5))
    agent(f"s.connect({there})")
    agent("s.close()")
    accepted.close()
    agent("(s := socket()) and s.setblocking(False)")
    agent("(e := select.epoll()) and e.register(s, select.EPOLLIN | select.EPOLLOUT)")
    for asks in (True, False):
        agent(f"s.connect_ex({nobody}) == errno.EINPROGRESS")
        agent("bool(e.poll(10))")
        if asks:
            agent("errno.errorcode[s.getsockopt(SOL_SOCKET, SO_ERROR)]")
        agent(f"errno.errorcode[s.connect_ex({nobody})]")
    agent(f"s.connect_ex({there}) == errno.EINPROGRESS")
    agent("until(lambda: e.poll(0) == [(s.fileno(), select.EPOLLOUT)])")
    accepted, _ = listener.accept()
    agent("s.send(b'hello')")
    agent.note("peer takes", receive_exactly(accepted, 5))
    accepted.send(b"answer")
    agent("until(lambda: e.poll(0) == [(s.fileno(), select.EPOLLIN | select.EPOLLOUT)])")
    agent("s.recv(10)")
    agent("s.close()")
    accepted.close()
    listener.close()
    settled(peer)


def user_timeout_of_a_closed_window(agent, peer):
    """A peer that answers, but takes nothing, is given up as well."""
    agent("c.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, 1500)")
    agent.ask("fill()")
    agent("until(lambda: 'ERR' in events(), 30)")
    look(agent)
    agent("errno.errorcode[c.getsockopt(SOL_SOCKET, SO_ERROR)]")
    agent("take()")
    agent("c.send(b'x')")


def keep_alive_of_a_living_peer(agent, peer):
    """However short the times, and changed while idle: a peer that answers is kept."""
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT"):
        agent(f"c.setsockopt(IPPROTO_TCP, {name}, 1)")
    agent("c.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, 1000)")
    agent("c.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)")
    agent("time.sleep(2.5)")
    agent("c.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 2)")
    agent("time.sleep(2.5)")
    look(agent)
    tell(peer, b"alive")
    agent("take()")


def unconnected(agent, peer):
    """Of a socket that was never connected, and of one whose connect was refused."""
    agent("(s := socket()) and None")
    for how in ("SHUT_RD", "SHUT_WR", "SHUT_RDWR"):
        agent(f"s.shutdown({how})")
    agent("s.send(b'x')")
    agent("s.recv(1)")
    agent(f"s.connect(('{CLIENT}', 9))")
    agent("s.getsockopt(SOL_SOCKET, SO_ERROR)")
    listener = agent.bed.listen(7003)
    agent("(s := socket()) and None")
    agent(f"s.connect(('{CLIENT}', 7003))")
    agent(f"s.connect(('{CLIENT}', 7003))")
    accepted, _ = listener.accept()
    agent("s.send(b'hello')")
    agent.note("peer takes", receive_exactly(accepted, 5))
    agent("s.close()")
    agent("(s := socket()) and s.setblocking(False)")
    agent(f"s.connect_ex(('{CLIENT}', 9)) == errno.EINPROGRESS")
    agent("select.select([], [s], [], 10)[1] == [s]")
    agent("errno.errorcode[s.getsockopt(SOL_SOCKET, SO_ERROR)]")
    agent("s.getsockopt(SOL_SOCKET, SO_ERROR)")
    agent("s.close()")
    accepted.close()
    listener.close()
    settled(peer)


@case
def options_only_the_kernel_has(bed):
    """None of them succeeds without effect: before connect() and listen() the socket stays with the
    kernel, which --strict refuses; of an offloaded connection they fail."""
    need_engine()
    agent = Agent(bed, True)
    listener = bed.listen(PORT)
    for option in ("SOL_SOCKET, 47, 1000000", "IPPROTO_TCP, TCP_NOTSENT_LOWAT, 16384",
                   "IPPROTO_TCP, TCP_WINDOW_CLAMP, 30000",
                   "IPPROTO_TCP, TCP_LINGER2, 5", "IPPROTO_TCP, TCP_DEFER_ACCEPT, 1"):
        agent.ask("(s := socket()) and None")
        check(agent.ask(f"s.setsockopt({option})") == "None", option)
        answer = agent.ask(f"s.connect(('{CLIENT}', {PORT}))")
        check(answer in REFUSED, f"{option}: connect {answer}")
        agent.ask(f"(l := socket()) and l.bind(('0.0.0.0', {PORT}))")
        agent.ask(f"l.setsockopt({option})")
        answer = agent.ask("l.listen()")
        check(answer in REFUSED, f"{option}: listen {answer}")
        agent.ask("l.close()")
    with bed.engine_opens():
        agent.ask("(s := socket()) and None")
        check(agent.ask(f"s.connect(('{CLIENT}', {PORT}))") == "None", "a plain socket")
        accepted, _ = listener.accept()
        for option in ("SOL_SOCKET, 47, 1000000", "IPPROTO_TCP, TCP_NOTSENT_LOWAT, 16384"):
            answer = agent.ask(f"s.setsockopt({option})")
            check(answer == "'ENOPROTOOPT'", f"{option}: {answer}")
        accepted.close()
    agent.ask("s.close()")
    agent.stop()
    listener.close()


OPTIONS = {low_water_mark_from_before: ("SOL_SOCKET, SO_RCVLOWAT, 100",)}
for _play in (closed_by_the_program_first, closed_by_the_peer_first, shut_for_reading,
              closed_with_unread_input, reset_by_the_peer, reset_read_first,
              reset_error_taken_first, reset_behind_an_end, sigpipe, orphan_delivers,
              linger_waits, linger_ends_with_the_acknowledgement, linger_with_unread_input,
              linger_of_one_among_two_processes, low_water_mark, low_water_mark_from_before,
              user_timeout_of_a_closed_window, keep_alive_of_a_living_peer, unconnected,
              connect_again):
    def _case(bed, play=_play):
        compare(bed, play, counted=play not in (unconnected, connect_again),
                options=OPTIONS.get(play, ()))
    _case.__name__ = _play.__name__
    case(_case)


harness.main()
