#include "engine/admin.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <variant>

#include "engine/clock.h"
#include "engine/log.h"
#include "engine/net/device.h"

namespace toe::engine {
namespace {

constexpr int kEvents = 64;
constexpr int kNotesPerTurn = 4096;
constexpr int kAcceptsPerTurn = 64;

Error failure(const char* what) { return {errno, std::string(what) + ": " + std::strerror(errno)}; }

control::Request request_of(control::Request::Kind kind) {
  control::Request request;
  request.kind = kind;
  return request;
}

}  // namespace

std::vector<int> Admin::watched_signals() { return {SIGTERM, SIGINT, SIGHUP, SIGCHLD}; }

Status Admin::prepare(UniqueFd control_socket) {
  control_socket_ = std::move(control_socket);
  epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) return failure("epoll_create");
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : watched_signals()) sigaddset(&set, signal);
  signals_.reset(::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!signals_.valid()) return failure("signalfd");
  for (const int fd : {control_socket_.get(), signals_.get(), links_.events.fd(),
                       links_.bridge.notes.event_fd(), links_.icmp.fd4()}) {
    Status status = watch(fd);
    if (!status.ok()) return status;
  }
  if (links_.metrics != nullptr) {
    Status status = watch(links_.metrics->asked_fd());
    if (!status.ok()) return status;
  }
  if (links_.filter != nullptr && links_.filter->fd() >= 0) {
    Status status = watch(links_.filter->fd());
    if (!status.ok()) return status;
    look_at_filter_at_ = Time{};  // rules may have come since the look before the start
  }
  return links_.icmp.fd6() < 0 ? Status(Done{}) : watch(links_.icmp.fd6());
}

Status Admin::watch(int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return failure("epoll_ctl");
  return Done{};
}

int Admin::run() {
  while (!stopped_) {
    const Time now = clock_now();
    if (now >= end_at_) break;
    epoll_event events[kEvents];
    const int count = ::epoll_wait(epoll_.get(), events, kEvents, timeout_ms(now));
    std::vector<int> ready;
    for (int i = 0; i < count; ++i) ready.push_back(events[i].data.fd);
    turn(ready);
  }
  return exit_code_;
}

int Admin::timeout_ms(Time now) const {
  if (links_.verbs.waiting() || orders_wait_) return 1;
  Time next = std::min({links_.destinations.next_deadline(), links_.heartbeat.next_deadline(),
                        resume_at_, look_at_filter_at_, end_at_});
  for (const auto& [fd, until] : resting_) next = std::min(next, until);
  if (next == Time::never()) return 1000;
  return static_cast<int>(std::clamp<std::int64_t>((next - now).ns / 1'000'000 + 1, 0, 1000));
}

void Admin::turn(const std::vector<int>& ready) {
  take_notes();
  for (const int fd : ready) {
    if (fd == control_socket_.get()) {
      accept_all();
    } else if (fd == signals_.get()) {
      on_signal();
    } else if (fd == links_.events.fd()) {
      read_events();
    } else if (fd == links_.icmp.fd4() || fd == links_.icmp.fd6()) {
      read_icmp();
    } else if (links_.metrics != nullptr && fd == links_.metrics->asked_fd()) {
      links_.metrics->take_question();
      links_.verbs.exposition(
          [this](std::string text) { links_.metrics->answer(std::move(text)); });
    } else if (links_.filter != nullptr && fd == links_.filter->fd()) {
      on_filter_change();
    } else if (fd != links_.bridge.notes.event_fd() && links_.bridge.orders.flush()) {
      read_client(fd);  // not while orders wait: programs have to wait as well
    }
  }
  const Time now = clock_now();
  // While orders wait the worker has too much to do: what changes now is told later, and once.
  if (links_.bridge.orders.flush()) links_.destinations.poll(now);
  if (now >= resume_at_) resume_clients(now);
  if (!resting_.empty()) wake_rested(now);
  if (now >= look_at_filter_at_) look_at_filter();
  look_after_ports(now);
  links_.verbs.poll(links_.clients);
  links_.heartbeat.poll(now);
  orders_wait_ = !links_.bridge.settle();
}

void Admin::read_client(int fd) {
  if (links_.clients.on_readable(fd)) return;
  (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  paused_.push_back(fd);
  if (resume_at_ == Time::never()) resume_at_ = clock_now() + kPause;
}

void Admin::resume_clients(Time now) {
  const std::size_t count = std::min(paused_.size(), kResumedPerTurn);
  for (std::size_t i = 0; i < count; ++i) {
    const int fd = paused_.front();
    paused_.pop_front();
    // Of a program that has gone, the number may mean something else by now; of one that came
    // after it, it is watched already.
    if (links_.clients.all().contains(fd)) (void)watch(fd);
  }
  resume_at_ = paused_.empty() ? Time::never() : now + kPause;
}

void Admin::on_filter_change() {
  links_.filter->drain();
  if (look_at_filter_at_ == Time::never()) look_at_filter_at_ = clock_now() + kFilterPause;
}

/// What is offloaded already stays so: ending it would cut connections that the rules may allow.
void Admin::look_at_filter() {
  look_at_filter_at_ = Time::never();
  Result<std::string> found = net::find_input_filter();
  if (!found.ok() || found.value().empty() == filter_.empty()) return;
  filter_ = found.value();
  links_.clients.set_filtered(!filter_.empty());
  if (filter_.empty()) {
    spdlog::info("no packet filter is in the way any more: new sockets are offloaded again");
  } else {
    spdlog::warn(
        "packet filter '{}' has come: new sockets stay with the kernel, but what is offloaded "
        "already does not pass it; end those programs, or the engine, if it must",
        filter_);
  }
}

void Admin::accept_all() {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    UniqueFd socket(
        ::accept4(control_socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket.valid()) return;
    const int fd = links_.clients.accept(std::move(socket));
    if (fd >= 0) (void)watch(fd);
  }
}

void Admin::on_signal() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) {
      stop();
    } else if (info.ssi_signo == SIGCHLD) {
      while (::waitpid(-1, nullptr, WNOHANG) > 0) {
        spdlog::warn("the guardian has gone; peers will not be told if this engine is killed");
      }
    }
  }
}

void Admin::stop() {
  if (end_at_ != Time::never()) return;
  end_at_ = clock_now() + kLongestStop;
  links_.manager.stopping(why_.empty() ? "ending its connections" : why_);
  links_.steering.detach();  // first: from here on the kernel answers new connections
  links_.bridge.send(request_of(control::Request::Kind::kStop));
  Order order;
  order.kind = Order::Kind::kStop;
  links_.bridge.send(order);
}

void Admin::fail(std::string why) {
  if (exit_code_ == 0) spdlog::error("{}", why);
  exit_code_ = 1;
  why_ = std::move(why);
  stop();
}

void Admin::take_notes() {
  links_.bridge.notes.clear_event();
  Note note;
  for (int i = 0; i < kNotesPerTurn; ++i) {
    if (!links_.bridge.notes.pop(note)) return;
    on_note(note);
    delete[] note.bytes;
  }
  links_.bridge.notes.wake();  // more is there: come back after the others
}

void Admin::on_note(const Note& note) {
  switch (note.kind) {
    case Note::Kind::kWantRoute:
      return links_.destinations.want(note.route);
    case Note::Kind::kForgetRoute:
      return links_.destinations.forget(note.route);
    case Note::Kind::kConfirmNeighbor:
      return links_.destinations.confirm(note.route);
    case Note::Kind::kMarkListener:
      return mark_listener(note.cookie);
    case Note::Kind::kCloseListener:
      return drain(links_.listeners.close(note.cookie));
    case Note::Kind::kReleasePort:
      return links_.listeners.release(note.address, note.port);
    case Note::Kind::kWantPort:
      return hold_port(note.address);
    case Note::Kind::kPortFailed:
      return fail("interface " + links_.device.name +
                  " carries no frames any more: " + std::strerror(note.error));
    case Note::Kind::kStopped:
      stopped_ = true;
      return;
    default:
      return links_.clients.on_note(note);
  }
}

void Admin::mark_listener(std::uint64_t cookie) {
  control::Request request = request_of(control::Request::Kind::kMarked);
  request.cookie = cookie;
  request.error = links_.listeners.mark(cookie);
  if (request.error != 0) {
    spdlog::error("port {} stays with the kernel: it cannot be steered to the engine: {}",
                  links_.listeners.port_of(cookie), std::strerror(request.error));
  }
  links_.bridge.send(request);
}

void Admin::look_after_ports(Time now) {
  if (now >= tidy_at_) {
    links_.listeners.tidy();
    tidy_at_ = now + kTidyEvery;
  }
  if (now >= follow_at_) {
    for (const std::uint16_t port : links_.listeners.follow_groups()) drain(port);
    follow_at_ = now + kFollowEvery;
  }
  if (now < drained_at_) return;
  drained_at_ = now + kDrainedEvery;
  if (links_.listeners.draining().empty()) return;
  with_connections([this](const auto* ours) {
    if (ours == nullptr) return;
    for (const std::uint16_t port : links_.listeners.draining()) {
      links_.listeners.tidy_drained(port, *ours);
    }
  });
}

/// Calls `done` with all connections of the engine; with none to say so if they cannot be listed.
void Admin::with_connections(std::function<void(const std::vector<port::FourTuple>*)> done) {
  links_.verbs.dump(true, [done = std::move(done)](auto rows, bool truncated) {
    if (truncated) return done(nullptr);
    std::vector<port::FourTuple> ours;
    for (const control::ConnRecord& row : rows) {
      if (row.kind == control::ConnRecord::Kind::kListener) continue;
      ours.push_back({row.key.local, row.key.remote, row.key.local_port, row.key.remote_port});
    }
    done(&ours);
  });
}

/// The port's connections stay here; its next listener may be one of the kernel alone. So its
/// connections are listed, and what is not among them is the kernel's.
void Admin::drain(std::uint16_t port) {
  if (port == 0) return;
  to_drain_.insert(port);
  if (!drain_asked_) drain_some();
}

/// One list serves all ports that wait for one. A second finds what was begun during the first:
/// SYNs came in until the port was drained.
void Admin::drain_some() {
  drain_asked_ = true;
  with_connections([this, ports = std::exchange(to_drain_, {})](const auto* ours) {
    drain_those(ports, ours);
    with_connections([this, ports](const auto* later) {
      drain_those(ports, later);
      drain_asked_ = false;
      if (!to_drain_.empty()) drain_some();
    });
  });
}

void Admin::drain_those(const std::set<std::uint16_t>& ports,
                        const std::vector<port::FourTuple>* ours) {
  if (ours == nullptr) return;
  for (const std::uint16_t port : ports) links_.listeners.drain(port, *ours);
}

void Admin::hold_port(const IpAddr& local) {
  control::Request request = request_of(control::Request::Kind::kHeldPort);
  request.local = local;
  Result<std::uint16_t> port = links_.listeners.hold(local);
  if (port.ok()) {
    request.local_port = port.value();
  } else {
    request.error = port.error().code;
  }
  links_.bridge.send(request);
}

void Admin::rest(int fd, Time until) {
  if (fd < 0 || !resting_.emplace(fd, until).second) return;
  (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

void Admin::wake_rested(Time now) {
  for (auto at = resting_.begin(); at != resting_.end();) {
    const auto [fd, until] = *at;
    if (now >= until && watch(fd).ok()) {
      at = resting_.erase(at);
    } else {
      ++at;
    }
  }
}

/// Anybody on the link can cause events and messages, faster than they can be read: that must
/// take little of a processor that the worker may need.
void Admin::read_events() {
  const bool more = links_.events.poll([this](const net::NetEvent& event) { on_net_event(event); });
  if (!more || events_quota_.take(clock_now(), net::NetEvents::kPerPoll)) return;
  rest(links_.events.fd(), events_quota_.ends());
}

void Admin::read_icmp() {
  std::uint32_t reports = 0;
  const std::uint32_t read = links_.icmp.poll([&](const wire::IcmpReport& report) {
    ++reports;
    on_icmp(report);
  });
  (void)icmp_quota_.take(clock_now(), read - reports);  // the others cost as much
  links_.verbs.set_icmp_dropped(links_.icmp.dropped());
  if (!icmp_quota_.used_up()) return;
  rest(links_.icmp.fd4(), icmp_quota_.ends());
  rest(links_.icmp.fd6(), icmp_quota_.ends());
}

void Admin::on_icmp(const wire::IcmpReport& report) {
  if (!icmp_quota_.take(clock_now())) return links_.verbs.count_icmp_over_limit();
  control::Request request = request_of(control::Request::Kind::kIcmp);
  request.icmp = report.kind == wire::IcmpReport::Kind::kTooBig
                     ? control::Request::Icmp::kTooBig
                     : control::Request::Icmp::kUnreachable;
  request.local = report.src;
  request.remote = report.dst;
  request.local_port = report.src_port;
  request.remote_port = report.dst_port;
  request.sequence = report.seq;
  request.length = report.length;
  request.mtu = report.mtu;
  request.error = report.error;
  links_.bridge.send(request);
}

void Admin::on_net_event(const net::NetEvent& event) {
  if (const auto* neighbour = std::get_if<net::Neighbour>(&event)) {
    links_.destinations.on_neighbour(*neighbour);
  } else if (const auto* link = std::get_if<net::LinkEvent>(&event)) {
    on_link(*link);
  } else if (const auto* address = std::get_if<net::AddressEvent>(&event)) {
    if (address->ifindex == links_.device.ifindex) on_address(address->address, address->added);
    links_.destinations.on_change(clock_now());
  } else if (std::holds_alternative<net::EventsLost>(event)) {
    if (auto link = net::read_link(links_.device.ifindex); link.ok()) on_link(link.value());
    reread_addresses();
    links_.destinations.on_change(clock_now());
  } else {
    links_.destinations.on_change(clock_now());
  }
}

void Admin::on_link(const net::LinkEvent& link) {
  if (link.ifindex != links_.device.ifindex) return;
  if (link.removed) return fail("interface " + links_.device.name + " is gone");
  port::Device& device = links_.device;
  if (link.name != device.name) {
    spdlog::warn("{} is now called {}", device.name, link.name);
    links_.verbs.on_renamed(link.name);
  }
  on_mtu(link);
  if (link.carrier != device.is_up) {
    spdlog::info("{}: link is {}", link.name, link.carrier ? "up" : "down");
  }
  if (link.mac != device.mac) links_.steering.set_mac(link.mac);
  device.name = link.name;
  device.mac = link.mac;
  device.is_up = link.carrier;
  links_.destinations.on_link(link);
}

void Admin::on_mtu(const net::LinkEvent& link) {
  if (link.mtu == link_mtu_) return;
  link_mtu_ = link.mtu;
  spdlog::info("{}: MTU is now {}", link.name, link.mtu);
  links_.device.mtu = net::usable_mtu(link.name, link.mtu, links_.port.max_mtu());
  control::Request request = request_of(control::Request::Kind::kLinkMtu);
  request.mtu = static_cast<std::uint16_t>(links_.device.mtu);
  links_.bridge.send(request);
}

void Admin::on_address(const IpAddr& address, bool added) {
  const bool news =
      added ? links_.listeners.add_address(address) : links_.listeners.remove_address(address);
  if (!news) return;
  control::Request request = request_of(added ? control::Request::Kind::kAddressBack
                                              : control::Request::Kind::kAddressGone);
  request.local = address;
  links_.bridge.send(request);
}

void Admin::reread_addresses() {
  Result<std::vector<IpAddr>> read = net::read_addresses(links_.device.ifindex);
  if (!read.ok()) return;
  const std::vector<IpAddr>& now = read.value();
  const auto known = links_.listeners.addresses();
  const std::vector<IpAddr> before(known.begin(), known.end());
  for (const IpAddr& address : before) {
    if (std::find(now.begin(), now.end(), address) == now.end()) on_address(address, false);
  }
  for (const IpAddr& address : now) on_address(address, true);
}

}  // namespace toe::engine
