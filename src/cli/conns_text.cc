#include "cli/conns_text.h"

#include <cstdint>
#include <vector>

#include <fmt/format.h>

#include "cli/text.h"

namespace toe::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kNoThreshold = 0xffff;  ///< as ss: from here on a threshold says nothing

std::int64_t number(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || !found->is_number() ? 0 : found->get<std::int64_t>();
}

bool on(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && *found == true;
}

/// " word:VALUE", unless the value is 0 or unknown.
void add(std::string& text, const char* word, std::int64_t value) {
  if (value != 0) text += fmt::format(" {}:{}", word, value);
}

std::string milliseconds(const Json& object, const char* key) {
  return fmt::format("{:g}", static_cast<double>(number(object, key)) / 1000);
}

void add_agreed(const Json& c, std::string& text) {
  if (on(c, "ts")) text += " ts";
  if (on(c, "sack")) text += " sack";
  const std::string ecn = c.value("ecn", "off");
  if (ecn != "off") text += " ecn";
  if (ecn == "seen") text += " ecnseen";
  const std::string cc = c.value("cc", "");
  if (!cc.empty()) text += " " + cc;
  if (c.contains("wscale")) {
    const Json& scale = c.at("wscale");
    text += fmt::format(" wscale:{},{}", scale.at(0).dump(), scale.at(1).dump());
  }
}

void add_times_and_sizes(const Json& c, std::string& text) {
  if (number(c, "rto_us") != 0) text += " rto:" + milliseconds(c, "rto_us");
  add(text, "backoff", number(c, "backoff"));
  if (number(c, "rtt_us") != 0) {
    text += " rtt:" + milliseconds(c, "rtt_us") + "/" + milliseconds(c, "rttvar_us");
  }
  add(text, "mss", number(c, "mss"));
  add(text, "pmtu", number(c, "pmtu"));
  add(text, "rcvmss", number(c, "rcv_mss"));
  add(text, "cwnd", number(c, "cwnd"));
  if (number(c, "ssthresh") < kNoThreshold) add(text, "ssthresh", number(c, "ssthresh"));
}

void add_totals(const Json& c, std::string& text) {
  add(text, "bytes_sent", number(c, "bytes_sent"));
  add(text, "bytes_retrans", number(c, "bytes_retrans"));
  add(text, "bytes_acked", number(c, "tx_bytes"));
  add(text, "bytes_received", number(c, "rx_bytes"));
  for (const char* key : {"segs_out", "segs_in", "data_segs_out", "data_segs_in"}) {
    add(text, key, number(c, key));
  }
}

void add_rates(const Json& c, std::string& text) {
  if (c.contains("dctcp_alpha")) {
    // ss shows alpha in 1/1024.
    text += fmt::format(" dctcp:(alpha:{:.0f})", c.at("dctcp_alpha").get<double>() * 1024);
  }
  const double rtt_us = static_cast<double>(number(c, "rtt_us"));
  const double window = static_cast<double>(number(c, "cwnd") * number(c, "mss"));
  if (rtt_us > 0 && window > 0) text += " send " + rate_text(window * 8e6 / rtt_us) + "bps";
  add(text, "lastsnd", number(c, "lastsnd_ms"));
  add(text, "lastrcv", number(c, "lastrcv_ms"));
  add(text, "lastack", number(c, "lastack_ms"));
  const double pacing = static_cast<double>(number(c, "pacing_rate"));
  if (pacing > 0) text += " pacing_rate " + rate_text(pacing * 8) + "bps";
}

void add_outstanding(const Json& c, std::string& text) {
  add(text, "unacked", number(c, "unacked"));
  if (number(c, "retrans_out") != 0 || number(c, "retrans") != 0) {
    text += fmt::format(" retrans:{}/{}", number(c, "retrans_out"), number(c, "retrans"));
  }
  add(text, "lost", number(c, "lost"));
  add(text, "rcv_space", number(c, "rcv_space"));
  add(text, "notsent", number(c, "notsent"));
  if (number(c, "min_rtt_us") != 0) text += " minrtt:" + milliseconds(c, "min_rtt_us");
  add(text, "snd_wnd", number(c, "snd_wnd"));
}

std::string users(const Json& c) {
  if (!c.contains("pid") || c.at("pid").is_null()) return "";
  return fmt::format("users:((\"{}\",pid={}))", printable(c.value("comm", "?")),
                     c.at("pid").dump());
}

std::vector<std::string> row(const Json& c, const char* received, const char* sent) {
  const std::string local = c.at("local").get<std::string>();
  const std::string nobody = local[0] == '[' ? "[::]:*" : "0.0.0.0:*";
  return {c.value("state", "LISTEN"),      std::to_string(number(c, received)),
          std::to_string(number(c, sent)), local,
          c.value("remote", nobody),       users(c)};
}

}  // namespace

std::string rate_text(double bits_per_second) {
  constexpr const char* kUnits[] = {"", "k", "M", "G", "T"};
  std::size_t unit = 0;
  while (bits_per_second >= 1000 && unit + 1 < std::size(kUnits)) {
    bits_per_second /= 1000;
    ++unit;
  }
  return fmt::format("{:.3g}{}", bits_per_second, kUnits[unit]);
}

std::string connection_details(const Json& c) {
  if (!c.contains("pmtu")) return "";
  std::string text;
  add_agreed(c, text);
  add_times_and_sizes(c, text);
  add_totals(c, text);
  add_rates(c, text);
  add_outstanding(c, text);
  return text;
}

std::string conns_text(const std::string& text) {
  const Json json = Json::parse(text);
  std::vector<std::vector<std::string>> rows = {
      {"State", "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port", "Process"}};
  std::vector<std::string> details(1);
  for (const Json& c : json.at("listeners")) {
    rows.push_back(row(c, "waiting", "backlog"));
    details.emplace_back();
  }
  for (const Json& c : json.at("conns")) {
    rows.push_back(row(c, "rx_queue", "tx_queue"));
    details.push_back(connection_details(c));
  }
  const std::vector<std::string> lines = table_lines(rows);
  std::string shown;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    shown += lines[i] + "\n";
    if (!details[i].empty()) shown += "\t" + details[i] + "\n";
  }
  if (json.value("truncated", false)) shown += "(more connections than one answer holds)\n";
  return shown;
}

}  // namespace toe::cli
