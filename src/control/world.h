// The border of control: what the engine tells it (Request) and what it asks of the engine (World).
// Both are values, so that the simulator can play the engine. Nothing here blocks.
#ifndef TOE_CONTROL_WORLD_H_
#define TOE_CONTROL_WORLD_H_

#include <cerrno>
#include <cstdint>
#include <span>
#include <type_traits>

#include "base/addr.h"
#include "base/frame.h"
#include "base/types.h"
#include "flow/key.h"
#include "shm/control_format.h"
#include "shm/segment_format.h"

namespace toe::control {

/// What the kernel's routes and rules may choose by: addresses, the port of the service (the other
/// port is 0, for it is another one for every connection), and who owns the socket.
struct RouteKey {
  flow::FlowKey path;  ///< local: any = the kernel picks the source
  std::uint32_t uid = 0;

  auto operator<=>(const RouteKey&) const = default;
};

/// How packets reach a destination. `kind` other than kDirect means: the kernel serves it.
struct Route {
  enum class Kind : std::uint8_t {
    kDirect,       ///< through DEV, next hop known
    kOtherDevice,  ///< leaves through another interface
    kOwnAddress,   ///< an address of this machine (loopback included)
    kUnreachable,  ///< no route, or the next hop does not answer; `error` says which
  };
  Kind kind = Kind::kUnreachable;
  std::uint8_t vlan_count = 0;
  std::uint16_t mtu = 1500;  ///< IP bytes, headers included
  std::uint16_t advmss = 0;  ///< MSS to announce; 0: what the MTU leaves
  std::int32_t error = 0;    ///< errno for kUnreachable
  MacAddr source_mac;
  MacAddr next_hop_mac;
  IpAddr source;  ///< preferred source address
  /// Algorithm of connections that do not choose one; "" or an unknown name = the default.
  char congestion[shm::kCongestionNameBytes] = {};

  /// No room for another destination or its next hop: a limit, and no fault of the destination.
  bool full() const { return kind == Kind::kUnreachable && error == ENOBUFS; }
};

/// Largest number of cookies shown at once.
inline constexpr std::uint32_t kMaxCookies = shm::kMaxShown;

/// One row of `flextoe conns`; filled by control, formatted elsewhere.
struct ConnRecord {
  enum class Kind : std::uint8_t { kConnection, kListener, kTimeWait };
  Kind kind = Kind::kConnection;
  std::uint8_t state = 0;  ///< kernel's TCP_* number (linux/tcp_states)
  bool v6 = false;
  flow::FlowKey key;
  std::int32_t pid = -1;  ///< -1 = no holder
  std::uint32_t uid = 0;
  shm::InfoReply info{};  ///< connections only
  std::uint64_t rx_bytes = 0, tx_bytes = 0;
  std::uint32_t rx_queue = 0,
                tx_queue =
                    0;  ///< as ss: unread and unacknowledged bytes; listener: waiting, backlog
  std::uint32_t rx_ring = 0, tx_ring = 0;  ///< ring sizes in bytes
  char congestion[16] = {};
  std::uint32_t snd_wnd = 0;  ///< bytes the peer takes at present
  /// Milliseconds since data was sent, since data came, since anything came; -1 = never.
  std::int64_t last_sent_ms = -1, last_data_ms = -1, last_heard_ms = -1;
  std::uint64_t ce_acked = 0;  ///< bytes acknowledged with ECE
  double alpha = -1;           ///< DCTCP.Alpha of a connection with ECN; -1 = not DCTCP
};

/// A dump in progress: the asker owns it; control fills it in bounded steps and sets `done` last
/// (release), after which the asker may read the rest.
struct Dump;

/// From the engine's other threads (already checked by them), or from the simulator.
struct Request {
  enum class Kind : std::uint8_t {
    kJoin,           ///< client, uid, pid, segment, base: a process attached with its first segment
    kSegment,        ///< client, segment, base: the segment asked for by World::want_segment
    kLeave,          ///< client: its process is gone (control socket closed)
    kContext,        ///< client, tag, segment, doorbell, known_doorbell: open a context
    kListen,         ///< client, tag, cookie, local, options, backlog, v6only, reuseport
    kMarked,         ///< cookie: steering of the listener's port is complete; error != 0: failed
    kConnect,        ///< client, tag, cookie, local (bound or any), remote, options
    kShow,           ///< client, tag, count, cookies: which lines belong to these sockets?
    kInfo,           ///< client, tag, segment, line
    kOption,         ///< client, tag, segment, line, level, name, value
    kRoute,          ///< route_key, route: new or changed answer to World::want_route
    kLinkMtu,        ///< mtu: of DEV from now on
    kIcmp,           ///< icmp, local, remote, ports, sequence, length, mtu or error: as claimed
    kHeldPort,       ///< local, local_port: a port for outgoing connections; error != 0: none
    kPagesReturned,  ///< segment, ring: return_pages is done
    kAddressGone,    ///< local: DEV lost this address
    kAddressBack,    ///< local: DEV has this address (again)
    kDump,           ///< dump
    kStop,           ///< clean exit: refuse new connections, end the others
  };
  enum class Icmp : std::uint8_t { kTooBig, kUnreachable };
  Kind kind = Kind::kLeave;
  Icmp icmp = Icmp::kUnreachable;
  bool v6only = false;
  bool reuseport = false;
  bool v4_socket = false;  ///< an AF_INET socket: speaks no IPv6
  std::uint16_t local_port = 0;
  std::uint16_t remote_port = 0;
  std::uint16_t mtu = 0;
  std::uint16_t length = 0;    ///< IP bytes of the packet that a router complains about
  std::uint32_t sequence = 0;  ///< its sequence number
  ClientId client = kNoClient;
  SegmentId segment = kNoSegment;
  std::uint64_t tag = 0;
  std::uint64_t cookie = 0;  ///< SO_COOKIE of the shown socket
  std::uint32_t uid = 0;
  std::int32_t pid = 0;
  std::uint32_t line = 0;
  std::uint32_t backlog = 0;
  std::uint32_t doorbell = 0;
  std::uint32_t count = 0;
  std::int32_t error = 0;
  std::int32_t level = 0;
  std::int32_t name = 0;
  IpAddr local;
  IpAddr remote;
  shm::RingRef ring{};
  std::uint8_t* base = nullptr;
  Dump* dump = nullptr;
  Route route;
  shm::SocketOptions options{};
  std::uint32_t value_length = 0;
  char value[64] = {};
  std::uint64_t cookies[kMaxCookies] = {};
};
static_assert(std::is_trivially_copyable_v<Request>);

/// The key of a kRoute, in the fields that have the same names.
inline RouteKey route_key(const Request& r) {
  return {{r.local, r.remote, r.local_port, r.remote_port}, r.uid};
}
inline void set_route_key(const RouteKey& key, Request& r) {
  r.local = key.path.local;
  r.remote = key.path.remote;
  r.local_port = key.path.local_port;
  r.remote_port = key.path.remote_port;
  r.uid = key.uid;
}

/// What control asks for. Every call returns at once; answers come as Requests.
/// Thread: called from control's own thread only.
class World {
 public:
  virtual ~World() = default;

  /// Sends a complete Ethernet frame; takes ownership.
  virtual void transmit(Frame frame) = 0;
  /// Gives a frame back to the data path behind the commands pushed so far (data that came with
  /// the last ACK of a handshake); takes ownership.
  virtual void reinject(Frame frame) = 0;
  /// Sends a message (starting with shm::MessageHeader) to a client.
  virtual void reply(ClientId client, std::span<const std::uint8_t> message) = 0;
  /// Sends the segment's memfd to the client unless it has it already.
  virtual void share_segment(ClientId client, SegmentId segment) = 0;
  /// Asks for one more segment for the client (kSegment follows).
  virtual void want_segment(ClientId client) = 0;
  /// The segment holds nothing any more: unmap and close it.
  virtual void free_segment(SegmentId segment) = 0;
  /// Gives the memory of a ring that nobody uses back to the system: a call that may wait for the
  /// programs that map it. kPagesReturned follows; until then the ring stays taken.
  virtual void return_pages(SegmentId segment, shm::RingRef ring) = 0;
  /// Disconnects a client whose shared memory or messages hold nonsense; kLeave follows.
  virtual void drop_client(ClientId client, const char* reason) = 0;
  /// Asks for a route (kRoute follows, again whenever it changes, until forgotten).
  virtual void want_route(const RouteKey& key) = 0;
  virtual void forget_route(const RouteKey& key) = 0;
  /// Segments that take this route time out: let the kernel check the neighbour.
  virtual void confirm_neighbor(const RouteKey& key) = 0;
  /// Steers the listener's (address, port) to the engine in the three steps; kMarked follows.
  /// Comes for every socket (cookie) of a SO_REUSEPORT group, as does close_listener.
  virtual void mark_listener(std::uint64_t cookie) = 0;
  /// The last holder of the listener is gone: no new connections; established ones keep the port.
  virtual void close_listener(std::uint64_t cookie) = 0;
  /// Nothing (listener, connection, TIME-WAIT) uses this local port any more: un-steer it. `local`
  /// is a wildcard for the port of a wildcard listener: then no address that it covered uses the
  /// port any more. Exact addresses that only an open wildcard listener made used are not released
  /// one by one. For a port of want_port: it is not wanted any more.
  virtual void release_port(const IpAddr& local, std::uint16_t port) = 0;
  /// Asks for a held ephemeral port on `local` (kHeldPort follows).
  virtual void want_port(const IpAddr& local) = 0;
};

}  // namespace toe::control

#endif  // TOE_CONTROL_WORLD_H_
