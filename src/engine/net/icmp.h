// ICMP and ICMPv6 about our connections: the kernel does not know these, so it is told here.
#ifndef TOE_ENGINE_NET_ICMP_H_
#define TOE_ENGINE_NET_ICMP_H_

#include <cstdint>
#include <functional>

#include "base/result.h"
#include "base/unique_fd.h"
#include "wire/icmp.h"

namespace toe::engine::net {

/// Two raw sockets on which the kernel's filters let pass only what poll() reports.
class IcmpSockets {
 public:
  /// Messages read from one socket per poll(): a flood must not hold the caller.
  static constexpr int kPerPoll = 64;
  /// Each socket's buffer. The kernel charges a whole page for a short message that came past an
  /// XDP program, so its default of 208 KiB would hold a few dozen while the reader is busy.
  static constexpr int kReceiveBufferBytes = 1 << 20;

  /// Needs CAP_NET_RAW. A machine without IPv6 gets the IPv4 socket alone.
  static Result<IcmpSockets> open();

  int fd4() const { return v4_.get(); }
  int fd6() const { return v6_.get(); }  ///< -1: no IPv6

  /// Reads what has arrived; never blocks. Returns how many messages, whatever they say.
  std::uint32_t poll(const std::function<void(const wire::IcmpReport&)>& report);

  /// Messages for which there was no room, ever.
  std::uint64_t dropped() const;

 private:
  UniqueFd v4_, v6_;
};

}  // namespace toe::engine::net

#endif  // TOE_ENGINE_NET_ICMP_H_
