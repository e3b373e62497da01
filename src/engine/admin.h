// The admin thread: control socket, netlink, steering maps, signals. Sleeps until one of them has
// something.
#ifndef TOE_ENGINE_ADMIN_H_
#define TOE_ENGINE_ADMIN_H_

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "engine/bridge.h"
#include "engine/clients.h"
#include "engine/destinations.h"
#include "engine/guardian.h"
#include "engine/heartbeat.h"
#include "engine/listeners.h"
#include "engine/metrics.h"
#include "engine/net/events.h"
#include "engine/net/icmp.h"
#include "engine/net/netfilter.h"
#include "engine/quota.h"
#include "engine/verbs.h"
#include "engine/worker.h"

namespace toe::engine {

/// Parts that start-up made; all outlive the admin thread.
struct AdminLinks {
  Bridge& bridge;
  Worker& worker;
  Guardian& guardian;
  port::Steering& steering;
  Listeners& listeners;
  Destinations& destinations;
  Clients& clients;
  Verbs& verbs;
  net::NetEvents& events;
  net::IcmpSockets& icmp;
  net::FilterWatch* filter;  ///< nullptr: packet filters are ignored
  port::Device& device;      ///< its MTU: as far as it is usable
  const port::PortCaps& port;
  ServiceManager& manager;
  Heartbeat& heartbeat;
  MetricsServer* metrics;  ///< nullptr without --metrics
};

class Admin {
 public:
  /// How long a clean end may take before the process ends all the same.
  static constexpr Nanos kLongestStop = seconds(3);
  /// How often exceptions of the steering program are compared with the kernel's connections.
  static constexpr Nanos kTidyEvery = seconds(30);
  /// How often ports that sockets of the kernel may share are looked at.
  static constexpr Nanos kFollowEvery = seconds(1);
  /// How often ended connections of drained ports are forgotten: their 4-tuples are the kernel's.
  static constexpr Nanos kDrainedEvery = seconds(4);
  /// ICMP messages passed on to control; then the sockets rest, whose buffers are bounded. Genuine
  /// ones come again.
  static constexpr std::uint32_t kIcmpPerSecond = 1000;
  /// Events of netlink read in a window; then they rest for what is left of it. What finds no room
  /// meanwhile is lost, and all is read again. A full buffer is read within two or three windows.
  static constexpr std::uint32_t kEventsPerWindow = 10 * net::NetEvents::kPerPoll;
  static constexpr Nanos kEventsWindow = millis(100);
  /// How long the programs of a user that asks too much are not read, and how many go on at once.
  static constexpr Nanos kPause = millis(10);
  static constexpr std::size_t kResumedPerTurn = 64;
  /// Packet filter rules often change many at a time: they are looked at this much later.
  static constexpr Nanos kFilterPause = millis(200);

  explicit Admin(const AdminLinks& links) : links_(links), link_mtu_(links.port.mtu) {}

  /// REQUIRES: the signals of watched_signals() are blocked in every thread.
  Status prepare(UniqueFd control_socket);
  /// Serves until a signal or until the device is gone; returns the exit code.
  int run();

  static std::vector<int> watched_signals();

 private:
  Status watch(int fd);
  void turn(const std::vector<int>& ready);
  int timeout_ms(Time now) const;
  void on_signal();
  void accept_all();
  void take_notes();
  void on_note(const Note& note);
  void mark_listener(std::uint64_t cookie);
  void look_after_ports(Time now);
  void with_connections(std::function<void(const std::vector<port::FourTuple>*)> done);
  void drain(std::uint16_t port);
  void drain_some();
  void drain_those(const std::set<std::uint16_t>& ports, const std::vector<port::FourTuple>* ours);
  void hold_port(const IpAddr& local);
  void rest(int fd, Time until);
  void wake_rested(Time now);
  void read_events();
  void read_icmp();
  void on_icmp(const wire::IcmpReport& report);
  void on_net_event(const net::NetEvent& event);
  void on_link(const net::LinkEvent& link);
  void on_mtu(const net::LinkEvent& link);
  void on_address(const IpAddr& address, bool added);
  void reread_addresses();
  void read_client(int fd);
  void resume_clients(Time now);
  void on_filter_change();
  void look_at_filter();
  void stop();
  void fail(std::string why);

  AdminLinks links_;
  UniqueFd epoll_;
  UniqueFd control_socket_;
  UniqueFd signals_;
  Time end_at_ = Time::never();
  Time tidy_at_;
  std::deque<int> paused_;  ///< sockets of programs that are not read for now
  Time resume_at_ = Time::never();
  Time follow_at_;
  Time drained_at_;
  std::set<std::uint16_t> to_drain_;  ///< wait for the next list of connections
  bool drain_asked_ = false;          ///< one is on its way
  Time look_at_filter_at_ = Time::never();
  bool orders_wait_ = false;  ///< the worker had no room for all
  std::string filter_;        ///< in the way of what is new; empty: none
  Quota icmp_quota_{kIcmpPerSecond, seconds(1)};
  Quota events_quota_{kEventsPerWindow, kEventsWindow};
  std::map<int, Time> resting_;  ///< not watched until then
  bool stopped_ = false;
  int exit_code_ = 0;
  std::string why_;         ///< the engine ends by itself
  std::uint32_t link_mtu_;  ///< of the device, usable or not
};

}  // namespace toe::engine

#endif  // TOE_ENGINE_ADMIN_H_
