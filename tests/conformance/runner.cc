#include "conformance/runner.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace toe::conformance {
namespace {

constexpr std::int64_t kMs = 1'000'000;
constexpr std::int64_t kPatience = 2000 * kMs;  ///< for a segment without `at`
constexpr std::uint8_t kJudged = kSyn | kFin | kRst | kAck;

const std::map<std::string, int>& errno_names() {
  static const std::map<std::string, int> names = {{"EAGAIN", EAGAIN},
                                                   {"EPIPE", EPIPE},
                                                   {"ECONNRESET", ECONNRESET},
                                                   {"ETIMEDOUT", ETIMEDOUT},
                                                   {"ENOTCONN", ENOTCONN},
                                                   {"ECONNREFUSED", ECONNREFUSED},
                                                   {"EINPROGRESS", EINPROGRESS},
                                                   {"ECONNABORTED", ECONNABORTED},
                                                   {"EINVAL", EINVAL}};
  return names;
}

long result_number(const std::string& word) {
  const auto found = errno_names().find(word);
  return found == errno_names().end() ? number(word) : -found->second;
}

std::string result_text(long result) {
  for (const auto& [name, value] : errno_names()) {
    if (result == -value) return name;
  }
  return std::to_string(result);
}

/// Index of "=" in the words, or their count.
std::size_t equals(const std::vector<std::string>& words) {
  return static_cast<std::size_t>(std::find(words.begin(), words.end(), "=") - words.begin());
}

void check_result(const std::vector<std::string>& words, long result, long otherwise) {
  const std::size_t at = equals(words);
  const long wanted = at + 1 < words.size() ? result_number(words[at + 1]) : otherwise;
  if (result != wanted) {
    throw Failure("the call gives " + result_text(result) + ", not " + result_text(wanted));
  }
}

std::string range_text(std::uint32_t begin, std::size_t length) {
  std::string text = std::to_string(static_cast<std::int32_t>(begin));
  if (length != 0) {
    text +=
        ":" + std::to_string(static_cast<std::int32_t>(begin + static_cast<std::uint32_t>(length)));
  }
  return text;
}

}  // namespace

Runner::Runner(const Script& script, Subject& subject, const std::string& name)
    : script_(script), subject_(subject), name_(name) {}

void Runner::run() {
  begin_ns_ = mark_ns_ = subject_.now();
  for (const Statement& s : script_.statements) {
    if (!s.only.empty() && s.only != name_) continue;
    try {
      execute(s.words);
    } catch (const Failure& failure) {
      throw Failure("line " + std::to_string(s.line) + ": " + s.text + "\n  " + failure.what());
    }
  }
  try {
    quiet(1);
  } catch (const Failure& failure) {
    throw Failure(std::string("at the end: ") + failure.what());
  }
}

void Runner::execute(const Words& words) {
  const Words rest(words.begin() + 1, words.end());
  if (words[0] == "<") return inject(parse_segment(rest));
  if (words[0] == ">") return expect(parse_segment(rest));
  if (words[0] == ">?") return tolerated_.push_back(parse_segment(rest));
  if (words[0] == "quiet") return quiet(number(rest.at(0)));
  if (words[0] == "wait") {
    subject_.pass(subject_.now() + number(rest.at(0)) * kMs);
    return;
  }
  if (words[0] == "peer") {  // another connection: port, and the peer's first sequence number
    peer_port_ = static_cast<std::uint16_t>(number(rest.at(0)));
    if (rest.size() > 1) peer_isn_ = static_cast<std::uint32_t>(number(rest.at(1)));
    subject_port_ = kServicePort;
    known_isn_ = stamps_sent_ = stamps_heard_ = false;
    written_ = read_ = 0;
    return;
  }
  if (words[0] == "established") return establish(words);
  mark_ns_ = subject_.now();
  call(words);
}

void Runner::call(const Words& words) {
  const std::string& name = words[0];
  if (name == "listen")
    return check_result(
        words,
        subject_.listen(words.size() > 1 && words[1] != "=" ? static_cast<int>(number(words[1]))
                                                            : 16),
        0);
  if (name == "accept") return check_result(words, subject_.accept(), 0);
  if (name == "connect") {
    peer_port_ = kRemotePort;
    known_isn_ = stamps_sent_ = stamps_heard_ = false;
    return check_result(words, subject_.connect(), -EINPROGRESS);
  }
  if (name == "connected") return check_result(words, subject_.connect_result(), 0);
  if (name == "write") return write(words);
  if (name == "read") return read(words);
  if (name == "urgent") return read_urgent(words);
  if (name == "shutdown") return check_result(words, shut(words), 0);
  if (name == "close" && words.size() > 1) return check_result(words, subject_.close_listener(), 0);
  if (name == "close") return check_result(words, subject_.close(), 0);
  if (name == "error") return check_result(words, subject_.error(), 0);
  if (name == "poll") return poll(words);
  if (name == "set") {
    const int value = static_cast<int>(number(words.at(2)));
    return check_result(words, subject_.set(words.at(1), value), 0);
  }
  throw Failure("not a statement: " + name);
}

// --- The wire ------------------------------------------------------------------------------------

void Runner::inject(const SegmentText& text) {
  const std::uint32_t origin = text.from_edge ? edge_ : 0;
  const std::uint32_t begin = origin + static_cast<std::uint32_t>(text.seq.value_or(0));
  const std::uint32_t end = text.end ? origin + static_cast<std::uint32_t>(*text.end) : begin;
  mark_ns_ = subject_.now();
  if (text.by == 0) {
    inject_one(text, begin, end);
  } else {
    for (std::uint32_t at = begin; at < end; at += static_cast<std::uint32_t>(text.by)) {
      inject_one(text, at, std::min(end, at + static_cast<std::uint32_t>(text.by)));
    }
  }
}

void Runner::inject_one(const SegmentText& text, std::uint32_t begin, std::uint32_t end) {
  Segment s;
  s.flags = text.flags;
  s.source = peer_port_;
  s.destination = subject_port_;
  s.seq = peer_isn_ + begin;
  s.ack = text.ack ? subject_isn_ + static_cast<std::uint32_t>(*text.ack) : 0;
  if (text.win) window_ = static_cast<std::uint16_t>(*text.win);
  s.window = window_;
  s.urgent = static_cast<std::uint16_t>(text.urgent.value_or(0));
  s.ecn = text.ecn.value_or(kNotEct);
  s.options = options_to_send(text);
  s.payload = payload(text, begin, end);
  note(s, false);
  subject_.inject(encode(s));
}

std::uint32_t Runner::echo_of(const OptionText& o) {
  if (!o.echo) return heard_;
  const auto label = labels_.find(*o.echo);
  return label != labels_.end() ? label->second : static_cast<std::uint32_t>(number(*o.echo));
}

/// Timestamps are added by themselves once both SYNs had them.
Options Runner::options_to_send(const SegmentText& text) {
  const OptionText t = text.options.value_or(OptionText{});
  const bool syn = (text.flags & kSyn) != 0;
  Options o;
  if (t.mss) o.mss = static_cast<std::uint16_t>(*t.mss);
  if (t.wscale) o.wscale = static_cast<std::uint8_t>(*t.wscale);
  o.sack_ok = t.sack_ok;
  o.raw = t.raw;
  for (const Block& b : t.sacks) o.sacks.push_back({subject_isn_ + b.begin, subject_isn_ + b.end});
  if (t.ts && *t.ts >= 0) stamp_ = static_cast<std::uint32_t>(*t.ts);
  if (syn && t.ts) stamps_sent_ = true;
  if (syn) scale_sent_ = t.wscale.has_value();
  const bool by_itself = stamps_sent_ && stamps_heard_ && !t.no_ts && !syn;
  if (t.ts || by_itself) o.stamps = Stamps{stamp_, echo_of(t)};
  if (syn && (text.flags & kAck) == 0 && !t.echo && o.stamps) o.stamps->echo = 0;
  return o;
}

std::vector<std::uint8_t> Runner::payload(const SegmentText& text, std::uint32_t begin,
                                          std::uint32_t end) const {
  if (end == begin) return {};
  if (!text.fill.empty()) {
    return std::vector<std::uint8_t>(end - begin, static_cast<std::uint8_t>(text.fill[0]));
  }
  const std::uint8_t* bytes = in_.at(begin - 1);
  return {bytes, bytes + (end - begin)};
}

void Runner::learn(const Segment& s) {
  if ((s.flags & kSyn) != 0 && !known_isn_) {
    subject_isn_ = s.seq;
    subject_port_ = s.source;
    known_isn_ = true;
  }
  if ((s.flags & kSyn) != 0) stamps_heard_ = s.options.stamps.has_value();
  if (s.options.stamps) heard_ = s.options.stamps->value;
  if ((s.flags & kSyn) != 0) subject_scale_ = scale_sent_ ? s.options.wscale.value_or(0) : 0;
  const int shift = (s.flags & kSyn) != 0 ? 0 : subject_scale_;
  if ((s.flags & kAck) != 0) edge_ = s.ack - peer_isn_ + (std::uint32_t{s.window} << shift);
}

bool Runner::receive(Segment& out, std::int64_t until) {
  Packet packet;
  while (subject_.next(packet, until)) {
    if (packet.bytes.size() < 20 || packet.bytes[0] >> 4 != 4 || packet.bytes[9] != 6) continue;
    if (!decode(packet.bytes, out)) throw Failure("a packet left that is no good TCP segment");
    out.at_ns = packet.at_ns;
    learn(out);
    note(out, true);
    if (out.destination != peer_port_) throw Failure("a segment to another port");
    check_payload(out);
    return true;
  }
  return false;
}

void Runner::check_payload(const Segment& s) const {
  if (s.payload.empty()) return;
  const std::uint64_t at = s.seq - 1 - subject_isn_;
  if (at + s.payload.size() > written_) throw Failure("bytes left that were never written");
  if (!out_.matches(at, s.payload.data(), s.payload.size())) throw Failure("wrong bytes left");
}

bool Runner::tolerated(const Segment& s) {
  for (auto it = tolerated_.begin(); it != tolerated_.end(); ++it) {
    if (!mismatch(*it, s).empty()) continue;
    tolerated_.erase(it);
    return true;
  }
  return false;
}

void Runner::expect(const SegmentText& text) {
  if (text.by == 0) return expect_one(text);
  for (long at = text.seq.value(); at < text.end.value(); at += text.by) {
    SegmentText one = text;
    one.seq = at;
    one.end = std::min(at + text.by, *text.end);
    expect_one(one);
  }
}

void Runner::expect_one(const SegmentText& text) {
  const bool timed = text.at_most >= 0;
  const std::int64_t patience = !timed             ? kPatience
                                : subject_.exact() ? (text.at_most + 1) * kMs
                                                   : std::max(kPatience, text.at_most * 10 * kMs);
  const std::int64_t until = std::max(mark_ns_, subject_.now()) + patience;
  Segment s;
  for (;;) {
    if (!receive(s, until)) throw Failure("nothing came");
    const std::string why = mismatch(text, s);
    if (why.empty()) break;
    if (!tolerated(s)) throw Failure(why + ": " + print(s, true));
  }
  check_time(text, s);
  mark_ns_ = s.at_ns;
  if (!text.label.empty() && s.options.stamps) labels_[text.label] = s.options.stamps->value;
}

void Runner::check_time(const SegmentText& text, const Segment& s) const {
  if (text.at_most < 0) return;
  const std::int64_t passed = s.at_ns - mark_ns_;
  const bool early =
      subject_.exact() ? passed < text.at_least * kMs : passed < text.at_least * kMs * 2 / 3;
  const bool late = subject_.exact() && passed > text.at_most * kMs;
  if (!early && !late) return;
  throw Failure("it came after " + std::to_string(static_cast<double>(passed) / 1e6) + " ms");
}

void Runner::quiet(long ms) {
  const std::int64_t until = subject_.now() + ms * kMs;
  Segment s;
  while (receive(s, until)) {
    if (!tolerated(s)) throw Failure("nothing was expected: " + print(s, true));
  }
  mark_ns_ = subject_.now();
}

std::string Runner::mismatch(const SegmentText& text, const Segment& s) const {
  if (((text.flags ^ s.flags) & kJudged) != 0) return "other flags";
  if ((text.flags & ~s.flags & ~kJudged) != 0) return "flags missing";
  if ((text.without & s.flags) != 0) return "a flag too many";
  if (text.ecn && s.ecn != *text.ecn) return "another ECN field";
  if (text.urgent && s.urgent != *text.urgent) return "another urgent pointer";
  const auto begin = static_cast<std::int32_t>(s.seq - subject_isn_);
  if (text.seq && begin != *text.seq) return "another sequence number";
  const long length = text.end ? *text.end - *text.seq : 0;
  if (length != static_cast<long>(s.payload.size())) return "another length";
  if (text.ack && static_cast<std::int32_t>(s.ack - peer_isn_) != *text.ack) return "another ack";
  if (text.win) {
    const long win = s.window;
    const bool good = text.win_compare == '='   ? win == *text.win
                      : text.win_compare == '<' ? win < *text.win
                                                : win > *text.win;
    if (!good) return "another window";
  }
  return text.options && !text.options->any ? options_mismatch(*text.options, s.options) : "";
}

std::string Runner::options_mismatch(const OptionText& text, const Options& o) const {
  const auto differs = [](const std::optional<long>& wanted, bool has, long value) {
    return wanted.has_value() != has || (has && *wanted >= 0 && *wanted != value);
  };
  if (differs(text.mss, o.mss.has_value(), o.mss.value_or(0))) return "another mss";
  if (differs(text.wscale, o.wscale.has_value(), o.wscale.value_or(0))) return "another wscale";
  if (text.sack_ok != o.sack_ok) return "SACK permitted or not";
  if (!o.raw.empty()) return "an option that is not known";
  const bool syn = o.mss.has_value();
  const bool stamps_wanted = text.ts.has_value() || (!syn && stamps_sent_ && stamps_heard_);
  if (stamps_wanted != o.stamps.has_value()) return "timestamps or none";
  if (text.echo && o.stamps && o.stamps->echo != static_cast<std::uint32_t>(number(*text.echo))) {
    return "another echo";
  }
  if (text.sacks.size() != o.sacks.size()) return "other blocks";
  for (std::size_t i = 0; i < o.sacks.size(); ++i) {
    const Block& b = o.sacks[i];
    if (b.begin - peer_isn_ != text.sacks[i].begin || b.end - peer_isn_ != text.sacks[i].end) {
      return "other blocks";
    }
  }
  return "";
}

std::string Runner::print(const Segment& s, bool out) const {
  const std::uint32_t own = out ? subject_isn_ : peer_isn_, other = out ? peer_isn_ : subject_isn_;
  std::string text = flags_text(s.flags) + " " + range_text(s.seq - own, s.payload.size());
  if ((s.flags & kAck) != 0) text += " ack " + range_text(s.ack - other, 0);
  text += " win " + std::to_string(s.window);
  if ((s.flags & kUrg) != 0) text += " urg " + std::to_string(s.urgent);
  static constexpr const char* kEcn[] = {"", " ecn ect1", " ecn ect", " ecn ce"};
  text += std::string(kEcn[s.ecn]) + " <";
  const Options& o = s.options;
  if (o.mss) text += "mss " + std::to_string(*o.mss) + ",";
  if (o.sack_ok) text += "sackOK,";
  if (o.wscale) text += "wscale " + std::to_string(*o.wscale) + ",";
  if (o.stamps) {
    text +=
        "ts " + std::to_string(o.stamps->value) + " ecr " + std::to_string(o.stamps->echo) + ",";
  }
  if (!o.sacks.empty()) text += "sack";
  for (const Block& b : o.sacks) text += " " + range_text(b.begin - other, b.end - b.begin);
  return text + ">";
}

void Runner::note(const Segment& s, bool out) {
  const std::int64_t at = (out ? s.at_ns : subject_.now()) - begin_ns_;
  char time[32];
  std::snprintf(time, sizeof time, "%10.3f ", static_cast<double>(at) / 1e6);
  trace_ += "    " + std::string(time) + (out ? "> " : "< ") + print(s, out) + "\n";
}

// --- The program ---------------------------------------------------------------------------------

/// established [active] [<options of the peer's SYN>] [win N] [rtt MS]
void Runner::establish(const Words& words) {
  std::string options = "<mss 1000>", window = "65535", rtt;
  bool active = false;
  for (std::size_t i = 1; i < words.size(); ++i) {
    if (words[i][0] == '<') options = words[i];
    if (words[i] == "active") active = true;
    if (words[i] == "win") window = words.at(i + 1);
    if (words[i] == "rtt") rtt = words.at(i + 1);
  }
  const auto pause = [&] {
    if (!rtt.empty()) execute({"wait", rtt});
  };
  if (active) {
    execute({"connect"});
    execute({">", "S", "0"});
    pause();
    execute({"<", "S.", "0", "ack", "1", "win", window, options});
    execute({">", ".", "1", "ack", "1"});
    execute({"connected"});
  } else {
    execute({"listen"});
    execute({"<", "S", "0", "win", window, options});
    execute({">", "S.", "0", "ack", "1"});
    pause();
    execute({"<", ".", "1", "ack", "1", "win", window});
    execute({"accept"});
  }
}

void Runner::write(const Words& words) {
  const long count = number(words.at(1));
  const std::string how = words.size() > 2 ? words[2] : "";
  const int flags = how == "more" ? MSG_MORE : how == "urgent" ? MSG_OOB : 0;
  const std::uint64_t before = written_;
  written_ += static_cast<std::uint64_t>(count);  // the segments may leave within the call
  const std::span<const std::uint8_t> bytes(out_.at(before), static_cast<std::size_t>(count));
  const ssize_t n = subject_.write(bytes, flags);
  written_ = before + static_cast<std::uint64_t>(std::max<ssize_t>(n, 0));
  check_result(words, n, count);
}

/// urgent [= RESULT] ["text"]
void Runner::read_urgent(const Words& words) {
  std::vector<std::uint8_t> byte(1);
  const ssize_t n = subject_.read(byte, MSG_OOB);
  const bool text = words.back()[0] == '"';
  check_result(Words(words.begin(), words.end() - (text ? 1 : 0)), n, 1);
  if (n == 1 && text && words.back()[1] != static_cast<char>(byte[0])) {
    throw Failure("another urgent byte");
  }
}

/// read N [= RESULT] ["text"]
void Runner::read(const Words& words) {
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(number(words.at(1))));
  const ssize_t n = subject_.read(bytes, 0);
  const bool text = words.back()[0] == '"';
  const Words call(words.begin(), words.end() - (text ? 1 : 0));
  check_result(call, n, static_cast<long>(bytes.size()));
  bytes.resize(static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
  check_read(words, n, bytes);
  read_ += bytes.size();
}

void Runner::check_read(const Words& words, long result, const std::vector<std::uint8_t>& bytes) {
  if (result <= 0) return;
  const std::string& last = words.back();
  if (last[0] == '"') {
    const std::string got(bytes.begin(), bytes.end());
    if (got != last.substr(1, last.size() - 2)) throw Failure("read \"" + got + "\"");
  } else if (!in_.matches(read_, bytes.data(), bytes.size())) {
    throw Failure("wrong bytes were read");
  }
}

void Runner::poll(const Words& words) {
  const short events = subject_.poll();
  std::string got;
  for (const auto& [bit, name] :
       std::initializer_list<std::pair<int, const char*>>{{POLLIN, " in"},
                                                          {POLLOUT, " out"},
                                                          {POLLRDHUP, " rdhup"},
                                                          {POLLHUP, " hup"},
                                                          {POLLERR, " err"}}) {
    if ((events & bit) != 0) got += name;
  }
  std::string wanted;
  for (std::size_t i = 1; i < words.size(); ++i) wanted += " " + words[i];
  if (got != wanted) throw Failure("poll says" + got);
}

int Runner::shut(const Words& words) {
  const std::string& how = words.at(1);
  return subject_.shutdown(how == "rd" ? SHUT_RD : how == "wr" ? SHUT_WR : SHUT_RDWR);
}

}  // namespace toe::conformance
