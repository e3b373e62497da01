// What routers say about segments sent from here: path MTU (RFC 1191, RFC 8201) and unreachables.
// Everything is forgeable and counts only if it quotes a segment that is outstanding (RFC 5927).
#include <algorithm>
#include <array>

#include "control/impl.h"
#include "wire/seqnum.h"

namespace toe::control {
namespace {

constexpr std::uint16_t kLeastMtu4 = 552;   // as Linux min_pmtu: smaller ones are attacks
constexpr std::uint16_t kLeastMtu6 = 1280;  // RFC 8201 section 4: never below
/// MTUs to try when a router gives none (RFC 1191 section 7).
constexpr std::array<std::uint16_t, 7> kPlateaus = {32000, 17914, 8166, 4352, 2002, 1492, 552};

std::uint16_t below(std::uint16_t length) {
  const auto at = std::find_if(kPlateaus.begin(), kPlateaus.end(),
                               [length](std::uint16_t plateau) { return plateau < length; });
  return at == kPlateaus.end() ? kLeastMtu4 : *at;
}

}  // namespace

void Control::Impl::on_icmp(const Request& r) {
  const std::uint32_t found = find_live({r.local, r.remote, r.local_port, r.remote_port});
  const auto n = static_cast<std::uint32_t>(conns.size());
  if (found == kNil) return count(counters.icmp_ignored);
  if (found >= n) return on_icmp_attempt(found - n, r);
  const flow::Flow& f = flows[found];
  const std::uint32_t position = r.sequence - f.pre.iss - 1;
  const auto una = static_cast<std::uint32_t>(f.protocol.snd_una);
  const auto outstanding = static_cast<std::uint32_t>(f.protocol.snd_max - f.protocol.snd_una);
  if (conns[found].state != Conn::State::kLive || position - una >= outstanding) {
    return count(counters.icmp_ignored);
  }
  if (r.icmp == Request::Icmp::kTooBig) return on_too_big(found, r);
  count(counters.icmp_unreachable);
  if (busy()) return;
  flow::Command command = make_command(flow::Command::Kind::kSoftError);
  command.flow = FlowId{found};
  command.error = static_cast<std::uint32_t>(r.error);
  commands.push(command);
}

// As Linux: in SYN-SENT every unreachable ends the attempt, for nothing is there to be lost.
void Control::Impl::on_icmp_attempt(std::uint32_t id, const Request& r) {
  const Attempt& a = attempts[id];
  const bool ours = a.state == Attempt::State::kSynSent && r.sequence == a.iss;
  if (!ours || r.icmp != Request::Icmp::kUnreachable) return count(counters.icmp_ignored);
  count(counters.icmp_unreachable);
  fail_connect(id, r.error, shm::KernelReason::kNone);
}

void Control::Impl::on_too_big(std::uint32_t id, const Request& r) {
  const bool v4 = r.remote.is_v4();
  std::uint16_t mtu = r.mtu == 0 && v4 ? below(r.length) : r.mtu;
  if (v4) mtu = std::max(mtu, kLeastMtu4);
  const Conn& c = conns[id];
  // A message only ever lowers; one about a segment that was sent smaller is late or forged.
  if ((!v4 && mtu < kLeastMtu6) || mtu >= routes.at(c.route).mtu() || r.length <= mtu) {
    return count(counters.icmp_ignored);
  }
  count(counters.icmp_too_big);
  routes.lower_mtu(c.route, mtu, now);
  refresh_route(c.route);
}

// Flows of destinations whose lowered MTU has run out try the route's again.
void Control::Impl::expire_path_mtus() {
  const std::uint32_t route = routes.expire_mtu(now);
  if (route != kNil) refresh_route(route);
}

}  // namespace toe::control
