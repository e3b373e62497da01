// The engine's answers to admin verbs as JSON text (schema 1; docs/operations.md names the keys).
// Pure: facts in, text out.
#ifndef TOE_ENGINE_JSON_H_
#define TOE_ENGINE_JSON_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "control/control.h"
#include "control/world.h"
#include "datapath/counters.h"
#include "engine/core.h"
#include "engine/options.h"
#include "port/port.h"

namespace toe::engine {

/// "10.0.0.1:80" or "[fd::1]:80"; a v4-mapped address is shown as IPv4.
std::string address_text(const IpAddr& address, std::uint16_t port);
/// The state's word as ss prints it, from the kernel's TCP_* number.
const char* state_word(std::uint8_t state);

struct ConnsView {
  bool time_wait = false;  ///< TIME-WAIT records are listed among the connections
  bool truncated = false;
  std::map<std::int32_t, std::string> names;  ///< of processes, by pid
};
std::string conns_json(std::span<const control::ConnRecord> records, const ConnsView& view);

using NamedCounts = std::vector<std::pair<std::string, std::uint64_t>>;
/// Names are unique: what two parts of the engine count under one name is added up.
void add_count(NamedCounts& counts, std::string_view name, std::uint64_t count);

struct StatsFacts {
  NamedCounts counters;
  NamedCounts drops;
  NamedCounts levels;  ///< as they are now
};
void add_control_counters(const control::Counters& counters, StatsFacts& facts);
void add_datapath_counters(const datapath::Counters& counters, StatsFacts& facts);
void add_core_losses(const CoreLosses& losses, StatsFacts& facts);
void add_port_counters(const port::PortStats& stats, StatsFacts& facts);
std::string stats_json(const StatsFacts& facts);

struct StatusFacts {
  struct Process {
    std::int32_t pid = 0;
    std::uint32_t uid = 0;
    std::string comm;
    std::uint64_t offloaded = 0;    ///< sockets the engine serves now: connections and listeners
    std::uint64_t connections = 0;  ///< of them
    std::vector<std::string> listeners;  ///< the others, as address:port
    std::uint64_t kernel = 0;            ///< sockets that stayed with the kernel
    std::map<std::string, std::uint64_t> reasons;
  };
  struct User {
    std::uint32_t uid = 0;
    std::uint64_t programs = 0, segments = 0, connections = 0;  ///< now
    std::uint64_t refused = 0, delayed = 0;                     ///< since it first came
  };
  std::string name, dev, version, mode;
  std::int32_t pid = 0;
  std::int32_t guardian_pid = 0;
  double uptime_s = 0;
  std::uint64_t fd_limit = 0;
  std::uint64_t flows = 0, max_flows = 0, segments = 0;
  bool zero_copy = false, generic_xdp = false;
  std::vector<Process> processes;
  std::vector<User> users;
};
std::string status_json(const StatusFacts& facts);

std::string config_json(const Settings& settings);

}  // namespace toe::engine

#endif  // TOE_ENGINE_JSON_H_
