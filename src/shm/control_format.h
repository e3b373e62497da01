// Messages of the control socket (AF_UNIX, SOCK_SEQPACKET; one message per packet).
// docs/formats/control-socket.md explains each exchange with an example.
//
// Every message starts with MessageHeader. Sizes are exact: a message whose length differs from
// its type's size is refused and the client disconnected. Integers are in host order.
#ifndef TOE_SHM_CONTROL_FORMAT_H_
#define TOE_SHM_CONTROL_FORMAT_H_

#include <cstdint>

#include "shm/congestion_names.h"
#include "shm/segment_format.h"

namespace toe::shm {

inline constexpr std::uint32_t kMaxMessageBytes = 4096;
inline constexpr std::uint32_t kMaxShown = 64;  ///< fds shown in one message

enum class MessageType : std::uint32_t {
  // application -> engine (fds that come along in brackets)
  kHello = 1,
  kListen,   // [listening socket]
  kConnect,  // [unconnected socket]
  kContext,  //
  kShow,     // [sockets, 1 to kMaxShown]
  kInfo,     //
  kOption,   //
  kReport,   //
  kAdmin,    //
  // engine -> application
  kWelcome = 64,  // [engine page (read-only), write end of the engine's doorbell]
  kSegment,       // [segment]  sent before the first message that names it
  kListening,
  kConnecting,
  kContextReady,  // [read end of the context's doorbell]  only for a new doorbell
  kShown,
  kInfoReply,
  kOptionReply,
  kRefused,
  kAdminReply,  // [memfd with the text]
};

struct MessageHeader {
  MessageType type;
  std::uint32_t length;  ///< whole message in bytes
  std::uint64_t tag;     ///< chosen by the asker, repeated in the answer; 0 for unasked messages
};

/// Why a socket stays with the kernel. Names are what `flextoe status` prints.
enum class KernelReason : std::uint32_t {
  kNone = 0,
  kNoEngine,           ///< no engine answers
  kVersion,            ///< engine and libtoe differ in ABI version
  kNotListening,       ///< the shown socket does not listen
  kNotTcp,             ///< not a TCP socket (MPTCP included)
  kOtherNamespace,     ///< socket of another network namespace
  kNotOurAddress,      ///< bound to an address that DEV does not have
  kOtherDevice,        ///< route leaves through another device
  kOwnAddress,         ///< destination is this machine
  kUnreachable,        ///< no route
  kOption,             ///< a socket option that the engine cannot honour is set
  kPortTaken,          ///< another listener of the engine has that address and port
  kLimit,              ///< a limit of the engine or of the user is reached
  kNetfilter,          ///< netfilter chains exist and --ignore-netfilter is not given
  kCongestionControl,  ///< a congestion control only the kernel has
  kIoUring,            ///< the process uses io_uring
  kBound,              ///< connect from an explicitly bound local port
  kOtherUser,          ///< the socket's segment belongs to another user
  kSteering,           ///< the port could not be steered to the engine; its log says why
  kInternal,           ///< the engine failed; its log says how
  kCount,
};

/// Socket facts that both kListen and kConnect carry: options read back from the kernel socket.
struct SocketOptions {
  std::uint32_t rcvbuf;  ///< 0 = not locked by the program: autotune
  std::uint32_t sndbuf;
  std::uint32_t app_flags;  ///< AppFlag bits
  std::uint32_t keep_idle_s;
  std::uint32_t keep_interval_s;
  std::uint32_t keep_count;
  std::uint32_t user_timeout_ms;
  std::uint32_t linger_s;                 ///< as in Line
  std::uint32_t max_segment;              ///< TCP_MAXSEG, 0 = none
  char congestion[kCongestionNameBytes];  ///< "" = the route's, or the default of the engine
};

/// How every Hello begins, whatever the version of the rest: enough to answer kVersion. `Refused`
/// has one form in all versions.
struct HelloBegin {
  MessageHeader header;
  std::uint32_t magic;
  std::uint16_t abi_version;
  std::uint16_t reserved;
};

struct Hello {
  MessageHeader header;
  std::uint32_t magic;  ///< kSegmentMagic
  std::uint16_t abi_version;
  std::uint16_t reserved;
  std::uint64_t features;
  std::int32_t pid;      ///< for display; credentials come from the socket
  std::uint32_t strict;  ///< 1 under `exec --strict`
  char comm[16];
};

struct Welcome {
  MessageHeader header;
  std::uint16_t abi_version;
  std::uint16_t reserved;
  std::uint32_t client_id;
  std::uint64_t features;
  std::uint64_t netns_cookie;
  std::uint64_t spin_ns;   ///< wait profile: busy-wait at most this long,
  std::uint64_t yield_ns;  ///< then yield the CPU for this long, then sleep
};

struct SegmentMessage {
  MessageHeader header;
  std::uint32_t segment_id;
  std::uint32_t reserved;
  std::uint64_t bytes;  ///< kSegmentBytes
};

struct Listen {
  MessageHeader header;
  std::uint32_t backlog;
  std::uint32_t reserved;
  SocketOptions options;
};

/// Answer to kListen and kConnect; the line's generation guards against reuse.
struct LineMessage {
  MessageHeader header;
  std::uint32_t segment_id;
  std::uint32_t line;
  std::uint32_t generation;
  std::uint32_t reserved;
};

struct Connect {
  MessageHeader header;
  std::uint8_t remote_addr[16];  ///< IPv6 or v4-mapped, network order
  std::uint16_t remote_port;     ///< host order
  std::uint16_t reserved0;
  std::uint32_t reserved1;
  SocketOptions options;
};

struct ContextMessage {
  MessageHeader header;
  std::uint32_t segment_id;
  std::uint32_t doorbell;  ///< ask: 0 = a new doorbell, else reuse this one; answer: its number
  std::uint32_t slot;      ///< answer: context slot in the segment
  std::uint32_t reserved;
};

struct Show {
  MessageHeader header;
  std::uint32_t count;  ///< fds in this message
  std::uint32_t reserved;
};

enum class ShownKind : std::uint32_t { kKernel = 0, kConnection, kListener };

struct Shown {
  MessageHeader header;
  std::uint32_t count;
  std::uint32_t reserved;
  struct Entry {
    ShownKind kind;
    std::uint32_t segment_id;
    std::uint32_t line;
    std::uint32_t generation;
  } entries[kMaxShown];
};

struct Info {
  MessageHeader header;
  std::uint32_t segment_id;
  std::uint32_t line;
};

/// What TCP_INFO needs; names after struct tcp_info.
struct InfoReply {
  MessageHeader header;
  std::uint32_t state;  ///< kernel's TCP_* number
  std::uint32_t ca_state, retransmits, backoff, options, snd_wscale, rcv_wscale;
  std::uint32_t rto_us, ato_us, snd_mss, rcv_mss, unacked, lost, retrans;
  std::uint32_t pmtu, rtt_us, rttvar_us, snd_ssthresh, snd_cwnd, rcv_space, total_retrans;
  std::uint64_t bytes_acked, bytes_received, bytes_sent, bytes_retrans, delivery_rate, pacing_rate;
  std::uint32_t segs_out, segs_in, data_segs_in, data_segs_out, min_rtt_us, notsent_bytes;
  char congestion[kCongestionNameBytes];  ///< algorithm in use; "" without a connection
};

/// An option that control has to know at once (TCP_CONGESTION, TCP_MAXSEG).
struct Option {
  MessageHeader header;
  std::uint32_t segment_id;
  std::uint32_t line;
  std::int32_t level;
  std::int32_t name;
  std::uint32_t length;
  std::uint32_t reserved;
  char value[64];
};

struct OptionReply {
  MessageHeader header;
  std::int32_t error;  ///< errno, 0 = done
  std::uint32_t reserved;
};

/// Tells the engine of sockets that stayed with the kernel, for `flextoe status`.
struct Report {
  MessageHeader header;
  KernelReason reason;
  std::uint32_t count;
};

struct Refused {
  MessageHeader header;
  KernelReason reason;
  std::int32_t error;  ///< errno for the program where the kernel would fail as well, else 0
};

enum class AdminVerb : std::uint32_t { kStatus = 1, kConns, kStats, kConfig };

inline constexpr std::uint32_t kAdminTimeWait = 1;    ///< flag of kConns: with TIME-WAIT records
inline constexpr std::uint32_t kAdminExposition = 1;  ///< flag of kStats: Prometheus' text
struct Admin {
  MessageHeader header;
  AdminVerb verb;
  std::uint32_t flags;
};

struct AdminReply {
  MessageHeader header;
  std::int32_t error;  ///< errno, 0 = the memfd holds `bytes` of JSON
  std::uint32_t reserved;
  std::uint64_t bytes;
};

static_assert(sizeof(HelloBegin) == 24 && sizeof(Refused) == 24, "fixed for all versions");
static_assert(sizeof(Shown) <= kMaxMessageBytes);

}  // namespace toe::shm

#endif  // TOE_SHM_CONTROL_FORMAT_H_
