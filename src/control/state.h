// Everything that control knows, without what it does with it. Private to src/control.
#ifndef TOE_CONTROL_STATE_H_
#define TOE_CONTROL_STATE_H_

#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "control/command_queue.h"
#include "control/control.h"
#include "control/job.h"
#include "control/key_index.h"
#include "control/ports.h"
#include "control/records.h"
#include "control/routes.h"
#include "control/segments.h"
#include "control/syn_cookies.h"
#include "control/time_wait.h"
#include "control/timers.h"

namespace toe::control {

struct State {
  State(const Options& o, const Secrets& s, const Links& l);

  Options options;
  Secrets secrets;
  Links links;
  World& world;
  std::span<flow::Flow> flows;
  CommandQueue commands;
  Counters counters;
  Time now{};
  bool stopping = false;
  SpentCookies spent_cookies;

  const Congestion* default_congestion;
  std::vector<Conn> conns;
  std::vector<std::uint32_t> free_conns;
  std::vector<Attempt> attempts;
  std::vector<std::uint32_t> free_attempts;
  std::uint32_t live_conns = 0;  ///< kOpening, kLive, kRemoving
  std::uint32_t orphan_count = 0;
  std::uint32_t returning = 0;  ///< rings whose pages go back to the system now
  KeyIndex index;               ///< connections, then attempts
  TimerWheel timers;            ///< the same numbers
  TimeWaitTable time_wait;
  RouteCache routes;
  std::vector<PortPool> pools;
  PortUses port_uses;
  std::vector<Listener> listeners;
  std::vector<std::uint32_t> free_listeners;
  std::vector<std::uint32_t> listeners_on_port;  ///< first of each port
  std::vector<std::unique_ptr<Segment>> segments;
  std::unordered_map<std::uint32_t, Client> clients;
  std::unordered_map<std::uint32_t, User> users;
  std::unordered_map<std::uint64_t, std::uint32_t> conn_by_cookie;  ///< of sockets that were shown
  std::unordered_map<ClaimedCookie, std::uint32_t, ClaimedCookie::Hash> claimed_cookies;
  std::unordered_map<std::uint64_t, std::uint32_t> listener_by_cookie;
  std::unordered_multimap<std::uint64_t, ListenAsk> listen_asks;          ///< by cookie
  std::unordered_map<std::uint32_t, std::vector<ClientId>> more_holders;  ///< by connection
  std::deque<Job> urgent_jobs;                                            ///< in order of arrival
  std::deque<Job> port_jobs;                                              ///< in turn
  std::deque<Job> clearing_jobs;                                          ///< in order of arrival
  Batch leaving;                                                          ///< clients of kLeave
  Batch closing;                                                          ///< listeners of kClose
  Batch renewing;                                                         ///< routes of kRoute
  std::deque<Dump*> dumps;
  std::vector<wire::HeaderTemplate> headers;  ///< templates lent to kSetHeader
  std::vector<std::uint32_t> free_headers;
};

}  // namespace toe::control

#endif  // TOE_CONTROL_STATE_H_
