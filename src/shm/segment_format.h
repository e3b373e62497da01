// Layout of a segment and of the engine page: the contract between engine and applications.
// docs/formats/segment.md explains it with worked examples; this header holds names and offsets.
//
// Trust: an application may write anything anywhere in its segments. The engine keeps its own
// lengths, bases and indices, reads each shared word once and checks it before use.
// Writers: each field names its one writer. All shared words are atomics.
#ifndef TOE_SHM_SEGMENT_FORMAT_H_
#define TOE_SHM_SEGMENT_FORMAT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/types.h"

namespace toe::shm {

inline constexpr std::uint32_t kSegmentMagic = 0x31656f74;  // "toe1"
inline constexpr std::uint32_t kPageMagic = 0x70656f74;     // "toep"
inline constexpr std::uint16_t kAbiVersion = 1;

/// Feature bits: a client may use what both sides name.
enum Feature : std::uint64_t {
  kFeatureRingSwitch = 1u << 0,
  kFeatureSharedListener = 1u << 1,
  kFeatureUrgent = 1u << 2,  ///< urgent data: Line::rx_urgent, tx_urgent and what belongs to them
};
inline constexpr std::uint64_t kFeatures =
    kFeatureRingSwitch | kFeatureSharedListener | kFeatureUrgent;

/// Without these two sides cannot work together; they count as different versions.
inline constexpr std::uint64_t kRequiredFeatures = kFeatureRingSwitch | kFeatureSharedListener;

inline constexpr std::uint64_t kSegmentBytes = 1ull << 30;
inline constexpr std::uint32_t kPageBytes = 4096;
inline constexpr std::uint32_t kContexts = 64;  ///< contexts per segment: bits of a mask
inline constexpr std::uint32_t kLines = 32768;  ///< connections and listeners per segment
inline constexpr std::uint32_t kQueueEntries =
    4 * kLines;  ///< one look, close, accept each + slack
inline constexpr std::uint32_t kMinRingBytes = 16 * 1024;
inline constexpr std::uint32_t kMaxRingBytes = 16 * 1024 * 1024;

/// A power-of-two ring inside the segment in one word, so that it is read and written whole:
/// bits 0-23 first page, bits 24-31 log2 of its size in bytes. 0 = none.
struct RingRef {
  std::uint32_t word = 0;

  static constexpr RingRef make(std::uint32_t page, std::uint32_t log2_bytes) {
    return {page | (log2_bytes << 24)};
  }
  constexpr bool valid() const { return word != 0; }
  constexpr std::uint64_t offset() const { return std::uint64_t{word & 0xffffffu} * kPageBytes; }
  constexpr std::uint32_t bytes() const { return word == 0 ? 0 : 1u << (word >> 24); }
  constexpr bool operator==(const RingRef&) const = default;
};

/// What a line stands for, and how far its connection is. Written by the engine.
enum class LineState : std::uint32_t {
  kFree = 0,
  kListening,    ///< rx_tail counts connections made ready; the accept ring is rx_ring[0]
  kConnecting,   ///< SYN sent, no answer yet
  kEstablished,  ///< data flows; stays so through every order of close
  kClosed,       ///< ended at both sides, reset, or timed out; error says why
};

/// Bits of Line::flags, written by the engine. Once set they stay set.
enum LineFlag : std::uint32_t {
  kRxFin = 1u << 0,       ///< the peer's FIN: end of stream at rx_tail
  kReset = 1u << 1,       ///< reset or aborted: reads and writes fail with `error`
  kTxFinAcked = 1u << 2,  ///< the peer has acknowledged our FIN
  kRxUrgent = 1u << 3,    ///< rx_urgent and its kin say something; set before rx_tail covers it
};

/// Bits of Line::app_flags, written by the application.
enum AppFlag : std::uint32_t {
  kShutWrite = 1u << 0,     ///< no byte at or after tx_tail will follow: send FIN
  kNoDelay = 1u << 1,       ///< TCP_NODELAY
  kCork = 1u << 2,          ///< TCP_CORK, or MSG_MORE on the last send
  kKeepAlive = 1u << 3,     ///< SO_KEEPALIVE with keep_*_s below
  kPush = 1u << 4,          ///< tx_tail is the end of a write (sets PSH there)
  kWantTxRing = 1u << 5,    ///< the send ring was found full: a larger one would help
  kQuickAck = 1u << 6,      ///< TCP_QUICKACK
  kShutRead = 1u << 7,      ///< shutdown for reading, in whichever process
  kUrgentInline = 1u << 8,  ///< SO_OOBINLINE
  kUrgentSent = 1u << 9,    ///< tx_urgent says something
};

/// One connection or listener. 512 bytes in cache lines of one writer each.
/// Positions are absolute 64-bit counts of payload bytes since the connection began; byte p of a
/// direction lies at offset p mod size of the ring responsible for p (see rx_switch, tx_switch).
struct alignas(kCacheLine) Line {
  // --- written by the engine, hot ---
  std::atomic<std::uint64_t> rx_tail;     ///< bytes received in order and copied
  std::atomic<std::uint64_t> tx_una;      ///< bytes acknowledged by the peer
  std::atomic<std::uint32_t> state;       ///< LineState
  std::atomic<std::uint32_t> flags;       ///< LineFlag bits
  std::atomic<std::uint32_t> error;       ///< errno that ended it, 0 = none
  std::atomic<std::uint32_t> generation;  ///< counts uses of this line; odd while in use
  std::atomic<std::uint32_t> rx_epoch;    ///< receive ring switches made
  std::atomic<std::uint32_t> rx_ring[2];  ///< RingRef; [e & 1] serves positions >= rx_switch[e & 1]
  std::atomic<std::uint32_t> tx_offered;  ///< send ring switches offered
  std::atomic<std::uint32_t> tx_ring[2];  ///< RingRef; [n & 1] is the ring of offer n
  // --- written by the engine, cold ---
  alignas(kCacheLine) std::atomic<std::uint64_t> rx_switch[2];  ///< see rx_ring
  std::atomic<std::uint8_t> local_addr[16];  ///< IPv6 or v4-mapped, network order
  std::atomic<std::uint8_t> remote_addr[16];
  std::atomic<std::uint16_t> local_port;  ///< host order
  std::atomic<std::uint16_t> remote_port;
  std::atomic<std::uint32_t> mss;      ///< largest payload of a segment sent now
  std::atomic<std::uint32_t> holders;  ///< processes that hold the connection; a moment's truth
  // --- written by the application, hot ---
  alignas(kCacheLine) std::atomic<std::uint64_t> tx_tail;  ///< bytes written into the send ring
  std::atomic<std::uint64_t> rx_head;     ///< bytes consumed; for a listener: accepts taken
  std::atomic<std::uint64_t> tx_switch;   ///< first position written to the ring of tx_taken
  std::atomic<std::uint32_t> tx_taken;    ///< send ring switches carried out (<= tx_offered)
  std::atomic<std::uint32_t> app_flags;   ///< AppFlag bits
  std::atomic<std::uint32_t> tx_writing;  ///< non-zero from the look at tx_offered to tx_tail
  std::atomic<std::uint32_t> spare;
  // --- written by both, atomically ---
  alignas(kCacheLine) std::atomic<std::uint64_t> rx_interest;  ///< contexts to hint on rx/state
  std::atomic<std::uint64_t> tx_interest;    ///< contexts to hint when sending is possible
  std::atomic<std::uint64_t> hinted_app;     ///< bit c: a hint lies in context c's app queue
  std::atomic<std::uint64_t> hinted_engine;  ///< bit c: a look lies in context c's engine queue
  std::atomic<std::uint64_t> claim;          ///< who accepted it: see make_claim
  std::atomic<std::uint32_t> rx_lock;        ///< among processes: 0, or 1 + context slot
  std::atomic<std::uint32_t> tx_lock;
  std::atomic<std::uint32_t> error_taken;      ///< non-zero: `error` was reported by SO_ERROR
  std::atomic<std::uint64_t> urgent_interest;  ///< contexts to hint when urgent data is announced
  // --- written by the application, cold ---
  alignas(kCacheLine) std::atomic<std::uint64_t> cookie;  ///< SO_COOKIE of the accepting fd
  std::atomic<std::uint32_t> options_epoch;               ///< counts changes of what follows
  std::atomic<std::uint32_t> keep_idle_s;                 ///< TCP_KEEPIDLE, seconds
  std::atomic<std::uint32_t> keep_interval_s;             ///< TCP_KEEPINTVL, seconds
  std::atomic<std::uint32_t> keep_count;                  ///< TCP_KEEPCNT
  std::atomic<std::uint32_t> user_timeout_ms;             ///< TCP_USER_TIMEOUT, 0 = default
  std::atomic<std::uint32_t> linger_s;                    ///< 1 + SO_LINGER seconds, 0 = off
  std::atomic<std::uint32_t> rcvbuf;                      ///< SO_RCVBUF as set, 0 = autotune
  std::atomic<std::uint32_t> sndbuf;                      ///< SO_SNDBUF as set, 0 = autotune
  std::atomic<std::uint64_t> tx_urgent;        ///< one past the last urgent byte, 0 = none
  std::atomic<std::uint64_t> rx_urgent_taken;  ///< rx_urgent whose byte MSG_OOB has taken
  // --- written by the engine, cold: urgent data received ---
  alignas(kCacheLine) std::atomic<std::uint64_t> rx_urgent;  ///< one past the urgent byte, 0 = none
  std::atomic<std::uint64_t> rx_urgent_here;  ///< rx_urgent whose byte lies in the ring
  std::atomic<std::uint64_t> rx_skip_begin;   ///< with rx_head in [rx_skip_begin, rx_skip_end)
  std::atomic<std::uint64_t> rx_skip_end;     ///< reading goes on at rx_skip_end
  alignas(kCacheLine) std::uint8_t reserved[128];
};
static_assert(sizeof(Line) == 512);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

/// Line::claim: the line's generation, and who has taken the connection from the accept ring. An
/// accept ring's entry has the line's number in place of the owner. Claiming is one exchange from
/// kUnclaimed to an owner, which fails when the line has come to stand for another connection.
constexpr std::uint64_t make_claim(std::uint32_t generation, std::uint32_t owner) {
  return std::uint64_t{generation} << 32 | owner;
}
constexpr std::uint32_t claim_generation(std::uint64_t claim) {
  return static_cast<std::uint32_t>(claim >> 32);
}
constexpr std::uint32_t claim_owner(std::uint64_t claim) {
  return static_cast<std::uint32_t>(claim);
}
inline constexpr std::uint32_t kUnclaimed = 0;      ///< waits; 1 + context slot: a process
inline constexpr std::uint32_t kEngineClaim = ~0u;  ///< ended before anybody took it
using AcceptEntry = std::atomic<std::uint64_t>;

/// Operation of a hint. An entry is line | (op << 24).
enum class HintOp : std::uint32_t {
  kLook = 0,        ///< positions, flags or options of the line may have moved
  kClose = 1,       ///< to the engine: this process gives the line up
  kCloseReset = 2,  ///< to the engine: the same, with SO_LINGER of zero seconds
  kAccept = 3,      ///< to the engine: this process accepted the line; `cookie`, `claim` are set
};
constexpr std::uint32_t make_hint(HintOp op, std::uint32_t line) {
  return line | (static_cast<std::uint32_t>(op) << 24);
}
constexpr HintOp hint_op(std::uint32_t entry) { return static_cast<HintOp>(entry >> 24); }
constexpr std::uint32_t hint_line(std::uint32_t entry) { return entry & 0xffffffu; }

/// One context: two hint queues between the engine and one waiter (an epoll instance or a thread)
/// of one process. Indices count up for ever; entry i lies in slot i mod kQueueEntries.
struct alignas(kCacheLine) Context {
  std::atomic<std::uint32_t> app_tail;     ///< engine: hints given to the application
  std::atomic<std::uint32_t> engine_head;  ///< engine: hints taken from the application
  alignas(kCacheLine) std::atomic<std::uint32_t> app_head;  ///< application: hints taken
  std::atomic<std::uint32_t> engine_tail;  ///< application: hints given to the engine
  std::atomic<std::uint32_t> sleep_epoch;  ///< application: odd while its waiter sleeps
};
static_assert(sizeof(Context) == 2 * kCacheLine);

struct alignas(kCacheLine) SegmentHeader {
  std::uint32_t magic;        // engine, once
  std::uint16_t abi_version;  // engine, once
  std::uint16_t reserved;
  std::uint64_t features;    // engine, once
  std::uint32_t segment_id;  // engine, once
  /// Bit c: context c has posted to the engine since the engine last looked. Applications set,
  /// the engine clears before it looks.
  alignas(kCacheLine) std::atomic<std::uint64_t> posted;
};

/// Offsets in a segment.
inline constexpr std::uint64_t kContextsOffset = kPageBytes;
inline constexpr std::uint64_t kLinesOffset = 1ull << 20;
inline constexpr std::uint64_t kQueuesOffset = 32ull << 20;
inline constexpr std::uint64_t kQueueBytes = std::uint64_t{kQueueEntries} * 4;
inline constexpr std::uint64_t kArenaOffset = 128ull << 20;  ///< rings, to the segment's end

static_assert(kContextsOffset + kContexts * sizeof(Context) <= kLinesOffset);
static_assert(kLinesOffset + kLines * sizeof(Line) <= kQueuesOffset);
static_assert(kQueuesOffset + 2 * kContexts * kQueueBytes <= kArenaOffset);

/// The engine page: one page written by the engine, mapped read-only by every application.
struct EnginePage {
  std::uint32_t magic;        // engine, once
  std::uint16_t abi_version;  // engine, once
  std::uint16_t reserved;
  std::uint32_t engine_pid;                                    // engine, once
  alignas(kCacheLine) std::atomic<std::uint32_t> sleep_epoch;  ///< engine: odd while it sleeps
};

}  // namespace toe::shm

#endif  // TOE_SHM_SEGMENT_FORMAT_H_
