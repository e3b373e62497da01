// Every bound of the engine, named once. Relations between bounds are asserted where both are
// known.
#ifndef TOE_BASE_LIMITS_H_
#define TOE_BASE_LIMITS_H_

#include <cstdint>

namespace toe {

inline constexpr std::uint32_t kBurst = 64;  ///< frames or hints taken per walk
/// Chunks per frame: 9,216 bytes of IP fit 2 KiB chunks, of which the kernel fills 1,792 bytes.
inline constexpr std::uint32_t kMaxFrameChunks = 6;
inline constexpr std::uint32_t kDefaultMaxFlows = 65536;  ///< connections per engine
inline constexpr std::uint32_t kMaxSegments = 1024;       ///< shared memory segments per engine
inline constexpr std::uint32_t kMaxListeners = 4096;
inline constexpr std::uint32_t kOutOfOrderRanges = 512;  ///< out-of-order ranges kept per flow
inline constexpr std::uint32_t kRecoveryRecords = 8192;  ///< flows with a gap at one time, per side
inline constexpr std::uint32_t kSequencerWindow = 1024;  ///< tickets in flight per order point
inline constexpr std::uint32_t kSynRing = 1024;          ///< SYNs waiting for control
inline constexpr std::uint32_t kControlRing = 1024;      ///< other frames waiting for control
inline constexpr std::uint32_t kCommandRing = 8192;      ///< control -> data path
inline constexpr std::uint32_t kEventRing = 16384;       ///< data path -> control

static_assert(kSequencerWindow >= 4 * kBurst, "a burst of each walk must fit the order points");

}  // namespace toe

#endif  // TOE_BASE_LIMITS_H_
