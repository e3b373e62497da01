#include "engine/setup.h"

#include <signal.h>
#include <sys/random.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "engine/clock.h"
#include "engine/log.h"
#include "engine/net/device.h"
#include "engine/net/netfilter.h"
#include "engine/privileges.h"
#include "engine/run.h"
#include "engine/socket_io.h"

namespace toe::engine {
namespace {

template <typename T>
Status take(Result<T> result, T& out) {
  if (!result.ok()) return result.error();
  out = std::move(result.value());
  return Done{};
}

template <typename T>
Status take(Result<T> result, std::optional<T>& out) {
  if (!result.ok()) return result.error();
  out.emplace(std::move(result.value()));
  return Done{};
}

/// Runs steps until one fails.
template <typename... Steps>
Status in_order(Steps... steps) {
  Status status = Done{};
  ((status.ok() ? static_cast<void>(status = steps()) : static_cast<void>(0)), ...);
  return status;
}

std::uint64_t random_word() {
  std::uint64_t word = 0;
  TOE_CHECK(::getrandom(&word, sizeof word, 0) == sizeof word);
  return word;
}

void block_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : Admin::watched_signals()) sigaddset(&set, signal);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

}  // namespace

Engine::~Engine() {
  worker_.reset();  // joins its thread
  if (socket_made_) ::unlink(socket_path_.c_str());
  if (guardian_.pid() > 0) guardian_.dismiss();  // an end in good order, also of a failed start
}

Status Engine::set_up(const ProcessTitle& title) {
  fd_limit_ = raise_fd_limit();
  socket_path_ = settings_.text("rundir") + "/" + settings_.text("name") + ".sock";
  Status manager = take(
      ServiceManager::of([](const char* name) { return std::getenv(name); }, ::getpid()), manager_);
  if (!manager.ok()) return manager;
  return in_order([&] { return check_privileges(); }, [&] { return look_at_machine(); },
                  [&] { return claim_name(); }, [&] { return start_guardian(title); },
                  [&] { return open_device(); }, [&] { return steer(); },
                  [&] { return make_core(); }, [&] { return open_metrics(); },
                  [&] { return make_admin(); }, [&] { return drop_privileges(); },
                  [&] { return start_threads(); });
}

Status Engine::look_at_machine() {
  Status status = in_order([&] { return take(net::read_device(settings_.text("dev")), device_); },
                           [&] { return take(net::read_addresses(device_.ifindex), addresses_); },
                           [&] { return take(net::own_netns_cookie(), netns_cookie_); });
  if (!status.ok() || settings_.on("ignore-netfilter")) return status;
  Result<std::string> filter = net::find_input_filter();
  if (!filter.ok()) return filter.error();
  if (filter.value().empty()) return Done{};
  return Error{EPERM, fmt::format("packet filter '{}' exists and would not see our traffic; give "
                                  "--ignore-netfilter if that is meant",
                                  filter.value())};
}

Status Engine::claim_name() {
  const std::string& directory = settings_.text("rundir");
  const std::string name = fmt::format("{}/{}.lock", directory, settings_.text("name"));
  const std::string device =
      fmt::format("{}/.device-{}-{}.lock", directory, netns_cookie_, device_.ifindex);
  const std::string taken = device_.name + " is served by another engine already";
  return in_order(
      [&] { return make_directory(directory); },
      [&] {
        return take(LockFile::acquire(name, "an engine of this name is running already"), lock_);
      },
      [&] { return take(LockFile::acquire(device, taken), device_lock_); });
}

Status Engine::start_guardian(const ProcessTitle& title) {
  const auto max_flows = static_cast<std::uint32_t>(settings_.number("max-flows"));
  return in_order([&] { return take(SharedFlows::make(max_flows), flows_); },
                  [&] {
                    return take(
                        Guardian::start(flows_.flows(), {device_.ifindex, title, restricted()}),
                        guardian_);
                  });
}

Status Engine::open_device() {
  port::AfXdpOptions options;
  options.chunks = static_cast<std::uint32_t>(settings_.number("frames"));
  Status status = take(port::AfXdpPort::open(device_, options), port_);
  if (!status.ok()) return status;
  device_.mtu = net::usable_mtu(device_.name, device_.mtu, port_->caps().max_mtu());
  return status;
}

Status Engine::steer() {
  Status status = take(port::Steering::load(device_), steering_);
  if (!status.ok()) return status;
  steering_->set_mac(device_.mac);
  for (const std::int64_t id : settings_.numbers("vlan")) {
    steering_->allow_vlan(static_cast<std::uint16_t>(id));
  }
  listeners_.emplace(*steering_, addresses_);
  // The program first: where its hook is decides in which mode the sockets may work.
  status = steering_->attach();
  for (std::uint32_t queue = 0; status.ok() && queue < port_->caps().queues; ++queue) {
    status = steering_->set_socket(queue, port_->queue_fd(queue));
  }
  if (!status.ok()) return status;
  port_->set_generic(steering_->generic());
  if (steering_->generic()) {
    spdlog::warn("the driver of {} has no XDP: the kernel's generic (skb) mode serves, slower",
                 device_.name);
  }
  return status;
}

control::CongestionSettings Engine::congestion_settings() const {
  control::CongestionSettings cc;
  const std::string& pacing = settings_.text("pacing");
  cc.pacing = pacing == "on"           ? control::Pacing::kOn
              : pacing == "slow-start" ? control::Pacing::kSlowStart
                                       : control::Pacing::kOff;
  cc.constant_rate = static_cast<std::uint64_t>(settings_.number("constant-rate")) * 1000 / 8;
  cc.constant_window = static_cast<std::uint32_t>(settings_.number("constant-window"));
  return cc;
}

CoreOptions Engine::core_options() const {
  CoreOptions options;
  const std::string& checksum = settings_.text("rx-csum");
  const bool partial = checksum == "auto" && port_->caps().partial_checksum;
  options.datapath.rx_checksum = checksum == "trust" ? wire::RxChecksum::kTrust
                                 : partial           ? wire::RxChecksum::kAcceptPartial
                                                     : wire::RxChecksum::kVerify;
  options.datapath.immediate_ack = settings_.text("ack") == "immediate";
  control::Options& control = options.control;
  control.max_flows = static_cast<std::uint32_t>(settings_.number("max-flows"));
  control.max_flows_per_user = static_cast<std::uint32_t>(settings_.number("max-flows-per-user"));
  control.max_connecting_per_user =
      static_cast<std::uint32_t>(settings_.number("max-connecting-per-user"));
  control.max_listeners_per_user =
      static_cast<std::uint32_t>(settings_.number("max-listeners-per-user"));
  control.max_ring_bytes_per_user =
      static_cast<std::uint64_t>(settings_.number("max-buffers-per-user"));
  control.max_rx_ring_bytes = static_cast<std::uint32_t>(settings_.number("max-rx-buffer"));
  control.max_tx_ring_bytes = static_cast<std::uint32_t>(settings_.number("max-tx-buffer"));
  control.min_rto = settings_.duration("min-rto");
  const std::string& cookies = settings_.text("syn-cookies");
  control.syn_cookies = cookies == "never"    ? control::SynCookies::kNever
                        : cookies == "always" ? control::SynCookies::kAlways
                                              : control::SynCookies::kWhenFull;
  const std::string& ecn = settings_.text("ecn");
  control.ecn = ecn == "off"       ? control::Ecn::kOff
                : ecn == "request" ? control::Ecn::kRequest
                                   : control::Ecn::kAccept;
  control.link_mtu = static_cast<std::uint16_t>(device_.mtu);
  control.partial_checksum_ok = static_cast<std::uint8_t>(options.datapath.rx_checksum);
  std::snprintf(control.congestion, sizeof control.congestion, "%s", settings_.text("cc").c_str());
  control.cc = congestion_settings();
  options.secrets.isn = {random_word(), random_word()};
  options.secrets.random = random_word();
  options.table_secret = {random_word(), random_word()};
  return options;
}

Status Engine::make_core() {
  Status status = in_order(
      [&] { return take(CongestionRoutes::parse(settings_.text("cc-route")), congestion_routes_); },
      [&] { return take(EnginePage::make(), page_); },
      [&] { return take(Bridge::make(page_.page()), bridge_); });
  if (!status.ok()) return status;
  world_ = std::make_unique<WorldBridge>(*bridge_);
  core_ = std::make_unique<Core>(core_options(),
                                 CoreLinks{*port_, port_->pool(), flows_.flows(), *world_});
  return take(Worker::make({*core_, *port_, *bridge_, *world_, page_.page()}, yield_time()),
              worker_);
}

UserLimits Engine::user_limits() const {
  UserLimits limits;
  const auto set = [&](Share share, const char* option) {
    limits.most[static_cast<std::size_t>(share)] =
        static_cast<std::uint32_t>(settings_.number(option));
  };
  set(Share::kPrograms, "max-programs-per-user");
  set(Share::kSegments, "max-segments-per-user");
  limits.requests_per_second =
      static_cast<std::uint32_t>(settings_.number("max-requests-per-user"));
  return limits;
}

Nanos Engine::yield_time() const {
  const std::string& profile = settings_.text("profile");
  return profile == "eco" ? Nanos{0} : profile == "balanced" ? micros(50) : micros(200);
}

StatusFacts Engine::status_facts() const {
  StatusFacts facts;
  facts.name = settings_.text("name");
  facts.dev = device_.name;
  facts.version = kVersion;
  facts.mode = settings_.text("layout");
  facts.pid = ::getpid();
  facts.guardian_pid = guardian_.pid();
  facts.fd_limit = fd_limit_;
  facts.max_flows = static_cast<std::uint64_t>(settings_.number("max-flows"));
  facts.zero_copy = port_->caps().zero_copy;
  facts.generic_xdp = port_->caps().generic;
  return facts;
}

/// A prefix of ours says more about our connections than a route of the kernel's.
void Engine::give_route(const control::RouteKey& key, const control::Route& route) {
  control::Request request;
  request.kind = control::Request::Kind::kRoute;
  set_route_key(key, request);
  request.route = route;
  const std::string_view algorithm = congestion_routes_.find(key.path.remote);
  if (!algorithm.empty()) {
    std::snprintf(request.route.congestion, sizeof request.route.congestion, "%.*s",
                  static_cast<int>(algorithm.size()), algorithm.data());
  }
  bridge_->send(request);
}

Status Engine::watch_filter() {
  return settings_.on("ignore-netfilter") ? Status(Done{})
                                          : take(net::FilterWatch::open(), filter_);
}

Status Engine::make_admin() {
  std::optional<net::RouteLookup> lookup;
  std::optional<net::Neighbours> neighbours;
  UniqueFd socket;
  const SocketAccess access{static_cast<mode_t>(settings_.number("socket-mode")),
                            settings_.text("socket-group")};
  Status status = in_order([&] { return take(net::RouteLookup::open(), lookup); },
                           [&] { return take(net::Neighbours::open(), neighbours); },
                           [&] { return take(net::NetEvents::open(), events_); },
                           [&] { return take(net::IcmpSockets::open(), icmp_); },
                           [&] { return watch_filter(); },
                           [&] { return take(open_control_socket(socket_path_, access), socket); });
  if (!status.ok()) return status;
  socket_made_ = true;
  destinations_.emplace(std::move(*lookup), std::move(*neighbours), device_,
                        port_->caps().max_mtu(),
                        [this](const control::RouteKey& key, const control::Route& route) {
                          give_route(key, route);
                        });
  verbs_.emplace(VerbLinks{*bridge_, *core_, settings_, *listeners_, segments_, *steering_,
                           status_facts(), clock_now()});
  heartbeat_.emplace(*bridge_, manager_);
  clients_.emplace(ClientLinks{*bridge_, page_, segments_, *listeners_, netns_cookie_, yield_time(),
                               user_limits()},
                   [this](Client& client, const shm::Admin& message) {
                     verbs_->ask(*clients_, client, message);
                   });
  admin_.emplace(AdminLinks{*bridge_, *worker_, guardian_, *steering_, *listeners_, *destinations_,
                            *clients_, *verbs_, *events_, *icmp_, filter_ ? &*filter_ : nullptr,
                            device_, port_->caps(), manager_, *heartbeat_, metrics_.get()});
  block_signals();
  return admin_->prepare(std::move(socket));
}

Status Engine::open_metrics() {
  const std::string& address = settings_.text("metrics");
  return address.empty() ? Status(Done{}) : take(MetricsServer::open(address), metrics_);
}

void Engine::print_ready() const {
  std::fprintf(stderr, "%sready name=%s dev=%s pid=%d socket=%s xdp=%s layout=%s\n",
               line_start(spdlog::level::info), settings_.text("name").c_str(),
               device_.name.c_str(), ::getpid(), socket_path_.c_str(),
               port_->caps().generic ? "generic" : "driver", settings_.text("layout").c_str());
}

bool Engine::restricted() const { return settings_.on("seccomp") && can_restrict_calls(); }

Status Engine::confine(ThreadRole role) const {
  return restricted() ? restrict_calls(role) : Status(Done{});
}

/// This thread comes last: once it is confined it starts no other.
Status Engine::start_metrics() {
  if (metrics_ == nullptr) return Done{};
  return metrics_->start([this] {
    return in_order([] { return drop_all_privileges(); },
                    [this] { return confine(ThreadRole::kMetrics); });
  });
}

Status Engine::start_threads() {
  if (!restricted()) {
    spdlog::warn("system calls are NOT restricted ({}): for debugging only",
                 can_restrict_calls() ? "--seccomp=false" : "this build has sanitizers");
  }
  Status status = worker_->start([this] {
    return in_order([] { return drop_all_privileges(); },
                    [this] { return confine(ThreadRole::kDataPath); });
  });
  if (!status.ok()) return status;
  status =
      in_order([this] { return start_metrics(); }, [this] { return confine(ThreadRole::kAdmin); });
  if (!status.ok()) {
    Order stop;
    stop.kind = Order::Kind::kStop;
    bridge_->send(stop);
  }
  return status;
}

int Engine::serve() {
  print_ready();
  manager_.ready("serving " + device_.name);
  const int code = admin_->run();
  worker_->join();
  return code;
}

}  // namespace toe::engine
