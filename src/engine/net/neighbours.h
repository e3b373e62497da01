// Next hops: resolved and kept fresh by the kernel, on our behalf.
#ifndef TOE_ENGINE_NET_NEIGHBOURS_H_
#define TOE_ENGINE_NET_NEIGHBOURS_H_

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include "base/addr.h"
#include "base/result.h"
#include "engine/net/netlink.h"

namespace toe::engine::net {

/// What the kernel knows of one neighbour.
struct Neighbour {
  int ifindex = 0;
  IpAddr address;
  std::optional<MacAddr> mac;  ///< set: frames may be sent there
  bool failed = false;         ///< did not answer
  bool stale = false;          ///< mac is good, but nobody has confirmed it for a while
  bool deleted = false;        ///< the kernel has forgotten it
  bool managed = false;        ///< the kernel keeps it fresh by itself
  bool fixed = false;          ///< set by the operator, or without resolution: never asked for
};

/// Parses RTM_NEWNEIGH and RTM_DELNEIGH; nothing for other families than IP.
std::optional<Neighbour> parse_neighbour(const nlmsghdr& message);

/// Keeps neighbours resolved. Thread: one.
///
/// The answer to keep() comes as a neighbour event (see NetEvents), at once if the address is
/// known; a host that does not answer is reported as failed after some three seconds, and another
/// refresh() asks again. IPv6: the kernel asks from the device's link-local address; on a device
/// without one (addrgenmode none) nothing is resolved on our behalf. Entries that the operator has
/// set (`nud permanent`) are left as they are: any request for one would make the kernel drop it.
///
/// The kernel's table is one for all namespaces and has an end (gc_thresh3), behind which nobody
/// on the host reaches a new neighbour. Half of it may be kept here, an eighth by addresses that
/// have not answered yet: forged ones never do.
class Neighbours {
 public:
  static constexpr std::uint32_t kUsualTable = 1024;  ///< gc_thresh3 if the kernel does not tell
  static constexpr std::uint32_t kMaxKept = 65536;

  static Result<Neighbours> open();

  /// Resolves `address` on `ifindex` and keeps it fresh until as many drop() calls have come.
  /// ENOBUFS: no more may be kept, or no more that are unknown.
  Status keep(int ifindex, const IpAddr& address);
  void drop(int ifindex, const IpAddr& address);

  /// What the kernel knows now; nothing if it has no entry.
  std::optional<Neighbour> get(int ifindex, const IpAddr& address);

  /// Doubt: asks the neighbour again although the kernel believes it knows it.
  Status refresh(int ifindex, const IpAddr& address);

  /// To be called with every neighbour event: re-adds kept entries that were deleted and uses
  /// those that grew stale where the kernel does not manage them.
  void on_event(const Neighbour& neighbour);
  /// To be called when the carrier of `ifindex` has come back: its loss deleted all entries.
  void on_carrier(int ifindex);

  std::size_t kept() const { return kept_.size(); }
  /// Of these, so many have not answered yet.
  std::size_t unknown() const { return counts_[0].unknown + counts_[1].unknown; }

 private:
  using Key = std::pair<int, IpAddr>;

  explicit Neighbours(Netlink netlink) : netlink_(std::move(netlink)) {}

  int manage(const Key& key);
  int use(const Key& key);
  int activate(const Key& key);
  bool is_fixed(const Key& key);

  struct Kept {
    std::uint32_t holders = 0;
    bool known = false;  ///< has answered since
  };
  /// Of one address family, as the kernel's tables.
  struct Counts {
    std::uint32_t kept = 0;
    std::uint32_t unknown = 0;
    std::uint32_t table = kUsualTable;  ///< places in the kernel's table
  };
  static bool has_room(const Counts& counts, bool known);
  Counts& counts_of(const IpAddr& address) { return counts_[address.is_v4() ? 0 : 1]; }
  void read_table_sizes();
  void note_answer(const Neighbour& neighbour);

  Netlink netlink_;
  std::map<Key, Kept> kept_;
  std::array<Counts, 2> counts_;    // IPv4, IPv6
  std::optional<bool> can_manage_;  // known after the first entry
};

}  // namespace toe::engine::net

#endif  // TOE_ENGINE_NET_NEIGHBOURS_H_
