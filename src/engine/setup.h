// Start-up: makes the parts of the engine in the order in which they depend on each other. What
// fails says so in one sentence.
#ifndef TOE_ENGINE_SETUP_H_
#define TOE_ENGINE_SETUP_H_

#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "engine/admin.h"
#include "engine/congestion_routes.h"
#include "engine/core.h"
#include "engine/engine_page.h"
#include "engine/lock_file.h"
#include "engine/options.h"
#include "engine/privileges.h"
#include "port/afxdp/afxdp_port.h"

namespace toe::engine {

/// Every part, in order of construction; destroyed in reverse.
class Engine {
 public:
  explicit Engine(Settings settings) : settings_(std::move(settings)) {}
  ~Engine();

  /// Everything up to the moment when traffic is served.
  Status set_up(const ProcessTitle& title);
  /// Serves until the end; returns the exit code.
  int serve();

 private:
  Status look_at_machine();
  Status claim_name();
  Status start_guardian(const ProcessTitle& title);
  Status open_device();
  Status steer();
  Status make_core();
  Status make_admin();
  Status watch_filter();
  bool restricted() const;
  Status confine(ThreadRole role) const;
  Status start_threads();
  CoreOptions core_options() const;
  control::CongestionSettings congestion_settings() const;
  void give_route(const control::RouteKey& key, const control::Route& route);
  UserLimits user_limits() const;
  Nanos yield_time() const;
  StatusFacts status_facts() const;
  Status open_metrics();
  Status start_metrics();
  void print_ready() const;

  Settings settings_;
  ServiceManager manager_;
  std::string socket_path_;
  std::uint64_t fd_limit_ = 0;
  std::uint64_t netns_cookie_ = 0;
  port::Device device_;
  std::vector<IpAddr> addresses_;
  LockFile lock_;
  LockFile device_lock_;
  SharedFlows flows_;
  Guardian guardian_;
  std::unique_ptr<port::AfXdpPort> port_;
  std::optional<port::Steering> steering_;
  EnginePage page_;
  SegmentStore segments_;
  std::unique_ptr<Bridge> bridge_;
  std::unique_ptr<WorldBridge> world_;
  std::unique_ptr<Core> core_;
  std::optional<Listeners> listeners_;
  std::optional<Destinations> destinations_;
  CongestionRoutes congestion_routes_;
  std::optional<Verbs> verbs_;
  std::optional<Heartbeat> heartbeat_;
  std::unique_ptr<MetricsServer> metrics_;
  std::optional<Clients> clients_;
  std::optional<net::NetEvents> events_;
  std::optional<net::IcmpSockets> icmp_;
  std::optional<net::FilterWatch> filter_;
  std::unique_ptr<Worker> worker_;
  std::optional<Admin> admin_;
  bool socket_made_ = false;
};

}  // namespace toe::engine

#endif  // TOE_ENGINE_SETUP_H_
