// What changes in the kernel's network set-up, as values.
#ifndef TOE_ENGINE_NET_EVENTS_H_
#define TOE_ENGINE_NET_EVENTS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "base/addr.h"
#include "base/result.h"
#include "engine/net/neighbours.h"
#include "engine/net/netlink.h"

namespace toe::engine::net {

struct LinkEvent {
  int ifindex = 0;
  std::string name;
  MacAddr mac;
  std::uint32_t mtu = 0;
  bool up = false;       ///< set up by the administrator
  bool carrier = false;  ///< and able to carry frames
  bool removed = false;
};

/// An address that TCP may use; link-local IPv6 addresses are left out (they stay the kernel's).
struct AddressEvent {
  int ifindex = 0;
  IpAddr address;
  bool added = false;  ///< false: gone, or not usable (duplicate)
};

/// Some route changed: what was looked up before may be wrong.
struct RoutesChanged {};

/// The kernel dropped events: read links, addresses and neighbours again, look up routes again.
/// Told behind all events that are older.
struct EventsLost {};

using NetEvent = std::variant<LinkEvent, AddressEvent, Neighbour, RoutesChanged, EventsLost>;

std::optional<LinkEvent> parse_link(const nlmsghdr& message);
std::optional<AddressEvent> parse_address(const nlmsghdr& message);

/// Listens to links, addresses, routes and neighbours of this namespace. Thread: one.
class NetEvents {
 public:
  static Result<NetEvents> open();

  /// Readable when events wait. Stays this object's.
  int fd() const { return netlink_.fd(); }

  /// Datagrams read by one poll(), an event or a few each.
  static constexpr unsigned kPerPoll = 64;
  /// Of a storm only so much is kept: with the rest it comes as EventsLost, which costs less.
  static constexpr int kReceiveBufferBytes = 1 << 18;

  /// Hands on what waits; never blocks. Returns whether more may wait.
  bool poll(const std::function<void(const NetEvent&)>& each);

 private:
  explicit NetEvents(Netlink netlink) : netlink_(std::move(netlink)) {}

  Netlink netlink_;
  bool lost_ = false;  ///< some, not told yet
};

}  // namespace toe::engine::net

#endif  // TOE_ENGINE_NET_EVENTS_H_
