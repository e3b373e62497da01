// The records that control keeps: half-open connections, connections, listeners, clients, users.
#ifndef TOE_CONTROL_RECORDS_H_
#define TOE_CONTROL_RECORDS_H_

#include <cstdint>
#include <cstring>
#include <vector>

#include "base/types.h"
#include "control/command_queue.h"
#include "control/congestion/congestion.h"
#include "control/index_list.h"
#include "control/world.h"
#include "flow/key.h"
#include "flow/slices.h"
#include "flow/table.h"
#include "shm/control_format.h"
#include "wire/segment.h"

namespace toe::control {

inline constexpr std::uint32_t kMaxAttempts = 16384;    ///< half-open connections, both directions
inline constexpr std::uint32_t kSparedAttempts = 1024;  ///< a flood of SYNs leaves these
inline constexpr std::uint32_t kMaxClients = 4096;
inline constexpr std::uint32_t kMaxMembers = 256;           ///< sockets (cookies) of one listener
inline constexpr std::uint32_t kMaxHolders = 1024;          ///< processes that hold one line
inline constexpr std::uint32_t kMaxSegmentsPerClient = 64;  ///< own ones, and as many of others
static_assert(2 * kMaxSegmentsPerClient * shm::kContexts <= CommandQueue::kWorkMargin,
              "all contexts of a client can be closed at once");
inline constexpr std::uint32_t kEventsPerPoll = 128;
inline constexpr std::uint32_t kEventsInHaste = 512;  ///< while the ring is more than half full
inline constexpr std::uint32_t kTimersPerPoll = 128;
inline constexpr std::uint32_t kRecordsPerStep = 128;  ///< records a job or dump looks at per poll
inline constexpr std::uint32_t kActionCost = 4;        ///< of one acted upon, in records
inline constexpr std::uint32_t kHoldersPerRecord = 8;  ///< that a job asks about at the same cost
inline constexpr std::uint32_t kWaitersPerStep = 32;   ///< attempts that go on at once
inline constexpr std::uint32_t kSearchesPerStep = 2;   ///< of PortPool::kTries ports each
inline constexpr std::uint32_t kMaxDumps = 16;
inline constexpr std::uint32_t kMaxPools = 256;         ///< local addresses of outgoing connections
inline constexpr std::uint32_t kHeaderTemplates = 256;  ///< kSetHeader under way at once
inline constexpr std::uint32_t kMaxBacklog = 16383;     ///< somaxconn is 4096

/// A connection before it is established. Passive: nothing else exists for it. Active: `conn` has
/// the line that the application watches.
struct Attempt {
  enum class State : std::uint8_t {
    kFree,
    kWaitMark,     ///< passive: the listener's port is not completely steered yet; active: begin
    kWaitRoute,    ///< the destination was asked for
    kWaitPort,     ///< active: a local port was asked for
    kSynSent,      ///< RFC 9293 SYN-SENT
    kSynReceived,  ///< RFC 9293 SYN-RECEIVED (active: simultaneous open)
  };
  State state = State::kFree;
  bool active = false;
  bool ts_on = false;
  bool wscale_on = false;
  bool sack_on = false;
  bool indexed = false;    ///< found by its key
  bool has_port = false;   ///< active: key.local_port is taken from `pool`
  bool ecn_asked = false;  ///< by our SYN (active) or the peer's
  bool ecn_on = false;     ///< negotiated
  bool ect_syn = false;    ///< passive: the SYN was ECT
  bool ect = false;        ///< what we send is ECT if ECN is on: DCTCP
  bool away = false;       ///< its local address is not DEV's at present
  bool by_cookie = false;  ///< passive: `iss` is a cookie
  std::uint8_t peer_wscale = 0;
  std::uint8_t own_wscale = 0;
  std::uint8_t retries = 0;
  std::uint16_t peer_mss = 0;
  std::uint16_t own_mss = 0;
  std::uint16_t peer_window = 0;  ///< unscaled, of the last segment
  flow::FlowKey key;
  std::uint32_t iss = 0;
  std::uint32_t irs = 0;
  std::uint32_t ts_recent = 0;
  std::uint32_t ts_offset = 0;
  std::uint32_t listener = kNil;  ///< passive
  std::uint32_t route = kNil;
  std::uint32_t pool = kNil;     ///< active: port pool that it waits for or has its port from
  std::uint32_t conn = kNil;     ///< active, once answered
  std::uint32_t port_at = 0;     ///< active: where in `pool` the search for a port goes on
  std::uint32_t ports_seen = 0;  ///< active: ports looked at since the kernel has no more
  wire::VlanTags vlan;
  Time started{};
  Time challenged{};  ///< last answer to a segment that did not move it on
  Time sent{};        ///< first SYN or SYN-ACK
  Link siblings;      ///< among the listener's embryos; free list
  Link waiting;       ///< among the waiters of route or pool
  // Active: what is needed for the answer.
  ClientId client = kNoClient;
  std::uint32_t uid = 0;
  std::uint64_t tag = 0;
  std::uint64_t cookie = 0;
  shm::SocketOptions options{};
};

/// One connection with a line. Its number is that of its flow record.
struct Conn {
  enum class State : std::uint8_t {
    kFree,
    kOpening,   ///< active open under way; an Attempt exists
    kLive,      ///< kInstall is pushed: the data path owns the flow
    kRemoving,  ///< kRemove is pushed, kRemoved has not come
    kEnded,     ///< only the line is left, for those who hold it or may still accept it
  };
  State state = State::kFree;
  bool queued = false;  ///< in an accept ring, nobody holds it yet
  bool orphan = false;
  bool half_closed = false;  ///< FIN-WAIT-2
  bool aborting = false;     ///< kAbort is pushed
  bool wants_rx = false;     ///< a larger ring once the last switch is over
  bool wants_tx = false;
  bool watched = false;   ///< kWatch is pushed and kActive has not come
  bool verified = false;  ///< the cookie was read from a socket that was shown
  bool passive = false;
  bool indexed = false;  ///< found by its key
  bool away = false;     ///< its local address is not DEV's at present
  std::uint16_t peer_mss = 0;
  std::uint16_t max_segment = 0;  ///< TCP_MAXSEG, 0 = none
  std::uint16_t port_mtu = 0;     ///< MTU its mss was computed from
  ClientId holder = kNoClient;    ///< first holder; others in Impl::more_holders
  std::uint32_t holders = 0;
  std::uint32_t segment = kNil;
  std::uint32_t line = 0;
  std::uint32_t uid = 0;
  std::uint32_t listener = kNil;  ///< while queued
  std::uint32_t route = kNil;
  std::uint32_t pool = kNil;     ///< held port's pool; kNil = listener's port
  std::uint32_t attempt = kNil;  ///< while opening
  std::uint64_t accept_index = 0;
  std::uint64_t cookie = 0;
  std::uint32_t cookie_uid = 0;  ///< who claimed it, unless `verified`
  shm::RingRef rx_ring, rx_old, tx_ring, tx_old;
  std::uint32_t window_limit = 0;  ///< largest window that our scale can announce
  const Congestion* algorithm = nullptr;
  CongestionState cc_state;
  flow::CongestionParams cc;
  Time arm_at = Time::never();        ///< asked for by the data path
  Time fin_wait2_at = Time::never();  ///< orphan in FIN-WAIT-2 ends
  Time idle_at = Time::never();       ///< next look whether its rings are idle
  wire::VlanTags vlan;
};

struct Member {
  std::uint64_t cookie = 0;
  bool marked = false;  ///< its (address, port) is steered
  std::vector<ClientId> holders;
};

/// One (local address, port) that is listened on; several sockets if SO_REUSEPORT is set.
struct Listener {
  bool used = false;
  bool closing = false;    ///< nobody holds it; a job takes it down
  std::uint32_t turn = 0;  ///< closing: of that job
  bool marked = false;     ///< steering is complete for one of its members
  bool v6only = false;
  bool v4_only = false;  ///< an AF_INET socket
  bool reuseport = false;
  std::uint16_t port = 0;
  IpAddr local;
  std::uint32_t uid = 0;
  std::uint32_t segment = kNil;
  std::uint32_t line = 0;
  std::uint32_t backlog = 0;
  std::uint32_t entries = 0;    ///< of the accept ring
  std::uint32_t queued = 0;     ///< connections nobody has accepted
  std::uint64_t announced = 0;  ///< connections ever put into the accept ring
  Time last_cookie{};           ///< no cookie can come back long after it
  List embryos;
  shm::RingRef ring;
  shm::SocketOptions options{};
  std::vector<Member> members;
  std::vector<ClientId> closes;  ///< one entry per kClose of a client with several members
  std::uint32_t next_on_port = kNil;
};

struct Client {
  std::uint32_t uid = 0;
  std::int32_t pid = 0;
  bool leaving = false;
  std::uint32_t turn = 0;               ///< leaving: of the kLeave job that gives up what it held
  std::uint32_t closing = 0;            ///< leaving: contexts that the data path has not closed yet
  bool wants_segment = false;           ///< want_segment was asked
  std::vector<std::uint32_t> segments;  ///< its own
  std::vector<std::uint32_t> shared;    ///< of others, shown to it
  std::vector<std::uint32_t> listeners;  ///< that it held at some time
};

/// A program that waits for the answer to its listen().
struct ListenAsk {
  ClientId client = kNoClient;
  std::uint64_t tag = 0;
};

/// What one user has of what all share.
struct User {
  std::uint32_t flows = 0;
  std::uint32_t connecting = 0;  ///< active attempts
  std::uint32_t listeners = 0;
  std::uint32_t orphans = 0;
  std::uint64_t ring_bytes = 0;

  bool has_nothing() const {
    return flows == 0 && connecting == 0 && listeners == 0 && orphans == 0 && ring_bytes == 0;
  }
};

/// SO_COOKIE that a process of `uid` says its new socket has. Not a proof: another user may say
/// the same, and neither disturbs the other.
struct ClaimedCookie {
  std::uint64_t cookie = 0;
  std::uint32_t uid = 0;

  bool operator==(const ClaimedCookie&) const = default;
  /// Keyed: programs choose the cookies.
  struct Hash {
    flow::HashKey secret;
    std::size_t operator()(const ClaimedCookie& c) const {
      IpAddr words;
      std::memcpy(words.bytes.data(), &c.cookie, sizeof c.cookie);
      std::memcpy(words.bytes.data() + sizeof c.cookie, &c.uid, sizeof c.uid);
      return static_cast<std::size_t>(flow::hash_of({words, {}, 0, 0}, secret));
    }
  };
};

}  // namespace toe::control

#endif  // TOE_CONTROL_RECORDS_H_
