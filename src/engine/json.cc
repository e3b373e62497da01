#include "engine/json.h"

#include <arpa/inet.h>

#include <array>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "wire/parse.h"

namespace toe::engine {
namespace {

using Json = nlohmann::ordered_json;

/// Names of processes are bytes that anybody may choose.
std::string dump(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Json pid_json(std::int32_t pid) { return pid < 0 ? Json(nullptr) : Json(pid); }

Json listener_json(const control::ConnRecord& record) {
  return {{"local", address_text(record.key.local, record.key.local_port)},
          {"state", "LISTEN"},
          {"pid", pid_json(record.pid)},
          {"uid", record.uid},
          {"waiting", record.rx_queue},
          {"backlog", record.tx_queue}};
}

/// As ss: ecnseen = the peer has sent something ECN-capable.
const char* ecn_word(std::uint32_t tcpi_options) {
  constexpr std::uint32_t kEcn = 8, kEcnSeen = 16;  // TCPI_OPT_ECN, TCPI_OPT_ECN_SEEN
  if ((tcpi_options & kEcn) == 0) return "off";
  return (tcpi_options & kEcnSeen) != 0 ? "seen" : "on";
}

/// What `ss -i` shows of a connection and we have, beside the keys of connection_json.
void add_details(const control::ConnRecord& record, Json& json) {
  constexpr std::uint32_t kTimestamps = 1, kSack = 2, kWindowScale = 4;  // TCPI_OPT_*
  const shm::InfoReply& info = record.info;
  json["ts"] = (info.options & kTimestamps) != 0;
  json["sack"] = (info.options & kSack) != 0;
  if ((info.options & kWindowScale) != 0) json["wscale"] = {info.snd_wscale, info.rcv_wscale};
  json["backoff"] = info.backoff;
  json["rcv_mss"] = info.rcv_mss;
  json["pmtu"] = info.pmtu;
  json["bytes_sent"] = info.bytes_sent;
  json["bytes_retrans"] = info.bytes_retrans;
  json["segs_out"] = info.segs_out;
  json["segs_in"] = info.segs_in;
  json["data_segs_out"] = info.data_segs_out;
  json["data_segs_in"] = info.data_segs_in;
  json["unacked"] = info.unacked;
  json["retrans_out"] = info.retrans;
  json["lost"] = info.lost;
  json["notsent"] = info.notsent_bytes;
  json["rcv_space"] = info.rcv_space;
  json["snd_wnd"] = record.snd_wnd;
  if (info.min_rtt_us != UINT32_MAX) json["min_rtt_us"] = info.min_rtt_us;
  if (record.last_sent_ms >= 0) json["lastsnd_ms"] = record.last_sent_ms;
  if (record.last_data_ms >= 0) json["lastrcv_ms"] = record.last_data_ms;
  if (record.last_heard_ms >= 0) json["lastack_ms"] = record.last_heard_ms;
}

Json connection_json(const control::ConnRecord& record) {
  Json json = {{"local", address_text(record.key.local, record.key.local_port)},
               {"remote", address_text(record.key.remote, record.key.remote_port)},
               {"state", state_word(record.state)},
               {"pid", pid_json(record.pid)},
               {"rx_bytes", record.rx_bytes},
               {"tx_bytes", record.tx_bytes}};
  if (record.kind == control::ConnRecord::Kind::kTimeWait) return json;
  json["uid"] = record.uid;
  json["rx_queue"] = record.rx_queue;
  json["tx_queue"] = record.tx_queue;
  json["cc"] = std::string(record.congestion, ::strnlen(record.congestion, 16));
  json["ecn"] = ecn_word(record.info.options);
  json["ce_acked"] = record.ce_acked;
  if (record.alpha >= 0) json["dctcp_alpha"] = record.alpha;
  json["pacing_rate"] = record.info.pacing_rate;
  json["mss"] = record.info.snd_mss;
  json["cwnd"] = record.info.snd_cwnd;
  json["ssthresh"] = record.info.snd_ssthresh;
  json["rtt_us"] = record.info.rtt_us;
  json["rttvar_us"] = record.info.rttvar_us;
  json["rto_us"] = record.info.rto_us;
  json["retrans"] = record.info.total_retrans;
  json["rx_ring"] = record.rx_ring;
  json["tx_ring"] = record.tx_ring;
  if (record.info.snd_mss != 0) add_details(record, json);  // not of an unfinished handshake
  return json;
}

Json counts_json(const NamedCounts& counts) {
  Json json = Json::object();
  for (const auto& [name, count] : counts) json[name] = count;
  return json;
}

}  // namespace

std::string address_text(const IpAddr& address, std::uint16_t port) {
  char text[INET6_ADDRSTRLEN] = {};
  if (address.is_v4()) {
    ::inet_ntop(AF_INET, address.v4_bytes(), text, sizeof text);
    return fmt::format("{}:{}", text, port);
  }
  ::inet_ntop(AF_INET6, address.bytes.data(), text, sizeof text);
  return fmt::format("[{}]:{}", text, port);
}

const char* state_word(std::uint8_t state) {
  static constexpr std::array words = {
      "UNKNOWN", "ESTAB",      "SYN-SENT", "SYN-RECV", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT",
      "UNCONN",  "CLOSE-WAIT", "LAST-ACK", "LISTEN",   "CLOSING",    "SYN-RECV"};
  return state < words.size() ? words[state] : words[0];
}

std::string conns_json(std::span<const control::ConnRecord> records, const ConnsView& view) {
  Json conns = Json::array();
  Json listeners = Json::array();
  for (const control::ConnRecord& record : records) {
    if (record.kind == control::ConnRecord::Kind::kTimeWait && !view.time_wait) continue;
    const bool listens = record.kind == control::ConnRecord::Kind::kListener;
    Json& shown = (listens ? listeners : conns).emplace_back();
    shown = listens ? listener_json(record) : connection_json(record);
    const auto name = view.names.find(record.pid);
    if (name != view.names.end()) shown["comm"] = name->second;
  }
  Json json = {{"schema", 1}, {"conns", std::move(conns)}, {"listeners", std::move(listeners)}};
  if (view.truncated) json["truncated"] = true;
  return dump(json);
}

void add_count(NamedCounts& counts, std::string_view name, std::uint64_t count) {
  for (auto& [known, sum] : counts) {
    if (known == name) {
      sum += count;
      return;
    }
  }
  counts.emplace_back(name, count);
}

void add_control_counters(const control::Counters& counters, StatsFacts& facts) {
#define TOE_ADD(name) \
  add_count(facts.counters, #name, counters.name.load(std::memory_order_relaxed));
  TOE_CONTROL_COUNTERS(TOE_ADD)
#undef TOE_ADD
#define TOE_ADD(name) \
  facts.drops.emplace_back(#name, counters.drops.name.load(std::memory_order_relaxed));
  TOE_CONTROL_DROPS(TOE_ADD)
#undef TOE_ADD
}

void add_datapath_counters(const datapath::Counters& counters, StatsFacts& facts) {
#define TOE_ADD(name) add_count(facts.counters, #name, counters.name.value());
  TOE_DATAPATH_COUNTERS(TOE_ADD)
#undef TOE_ADD
#define TOE_ADD(name) facts.drops.emplace_back(#name, counters.drops.name.value());
  TOE_DATAPATH_DROPS(TOE_ADD)
#undef TOE_ADD
  for (std::size_t i = 1; i < counters.parse.size(); ++i) {  // 0 is kOk
    facts.drops.emplace_back(wire::verdict_name(static_cast<wire::ParseVerdict>(i)),
                             counters.parse[i].value());
  }
}

void add_core_losses(const CoreLosses& losses, StatsFacts& facts) {
  facts.drops.emplace_back("answers_full", losses.answers_full.value());
  facts.drops.emplace_back("given_back_full", losses.given_back_full.value());
  facts.drops.emplace_back("wire_full", losses.wire_full.value());
}

void add_port_counters(const port::PortStats& stats, StatsFacts& facts) {
  facts.counters.emplace_back("port_rx_frames", stats.rx_frames);
  facts.counters.emplace_back("port_rx_bytes", stats.rx_bytes);
  facts.counters.emplace_back("port_tx_frames", stats.tx_frames);
  facts.counters.emplace_back("port_tx_bytes", stats.tx_bytes);
  facts.counters.emplace_back("port_tx_kicks", stats.tx_kicks);
  facts.drops.emplace_back("port_rx_full", stats.rx_dropped_full);
  facts.drops.emplace_back("port_rx_no_fill", stats.rx_dropped_no_fill);
  facts.drops.emplace_back("port_rx_jumbo", stats.rx_dropped_jumbo);
  facts.drops.emplace_back("port_rx_other", stats.rx_dropped_other);
  facts.drops.emplace_back("port_tx_full", stats.tx_rejected_full);
  facts.drops.emplace_back("port_tx_invalid", stats.tx_invalid);
}

std::string stats_json(const StatsFacts& facts) {
  return dump({{"schema", 1},
               {"counters", counts_json(facts.counters)},
               {"drops", counts_json(facts.drops)},
               {"levels", counts_json(facts.levels)}});
}

std::string status_json(const StatusFacts& facts) {
  Json processes = Json::array();
  for (const StatusFacts::Process& process : facts.processes) {
    processes.push_back({{"pid", process.pid},
                         {"comm", process.comm},
                         {"uid", process.uid},
                         {"offloaded", process.offloaded},
                         {"connections", process.connections},
                         {"listeners", process.listeners},
                         {"kernel", process.kernel},
                         {"reasons", Json(process.reasons)}});
  }
  Json users = Json::array();
  for (const StatusFacts::User& user : facts.users) {
    users.push_back({{"uid", user.uid},
                     {"programs", user.programs},
                     {"segments", user.segments},
                     {"connections", user.connections},
                     {"refused", user.refused},
                     {"delayed", user.delayed}});
  }
  return dump({{"schema", 1},
               {"name", facts.name},
               {"dev", facts.dev},
               {"pid", facts.pid},
               {"guardian_pid", facts.guardian_pid},
               {"version", facts.version},
               {"mode", facts.mode},
               {"xdp", facts.generic_xdp ? "generic" : "driver"},
               {"zero_copy", facts.zero_copy},
               {"uptime_s", facts.uptime_s},
               {"fd_limit", facts.fd_limit},
               {"flows", facts.flows},
               {"max_flows", facts.max_flows},
               {"segments", facts.segments},
               {"users", std::move(users)},
               {"processes", std::move(processes)}});
}

std::string config_json(const Settings& settings) {
  Json options = Json::object();
  for (const OptionSpec& option : option_table()) {
    Json& shown = options[std::string(option.name)];
    shown = {{"value", settings.text(option.name)},
             {"source", source_name(settings.source(option.name))},
             {"default", option.initial},
             {"reason", option.reason}};
    if (option.type == OptionType::kChoice) shown["choices"] = option.words;
  }
  return dump({{"schema", 1}, {"options", std::move(options)}});
}

}  // namespace toe::engine
