// The decisions of a wire: frame and instant in, verdict out. No clock, no socket, no memory of
// frames: the program (wire.cc) and the simulator (tests/sim) carry out what is decided here.
#ifndef TOE_NETLAB_IMPAIRER_H_
#define TOE_NETLAB_IMPAIRER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>

#include "base/types.h"
#include "netlab/draw.h"
#include "netlab/frame_view.h"
#include "netlab/impairments.h"

namespace toe::netlab {

enum class Drop : std::uint8_t { kNone, kLoss, kBurst, kEvery, kScript, kQueueFull, kCount };
inline constexpr std::array<const char*, static_cast<std::size_t>(Drop::kCount)> kDropNames = {
    "none", "loss", "burst", "every", "script", "queue_full"};

/// What becomes of one frame.
struct Verdict {
  static constexpr unsigned kMaxCopies = 2;
  Drop drop = Drop::kNone;
  unsigned copies = 1;                          ///< 0 if dropped
  std::array<Time, kMaxCopies> departure = {};  ///< of each copy, at the latest
  bool reordered = false;
  /// If not 0, the first copy departs as soon as so many frames that came after it have.
  std::uint32_t behind = 0;
  bool mark = false;
  std::optional<std::size_t> flip;  ///< number of the bit to flip
};

/// What was decided so far.
struct Tally {
  std::uint64_t frames = 0, bytes = 0;
  std::uint64_t selected = 0;
  std::array<std::uint64_t, static_cast<std::size_t>(Drop::kCount)> dropped = {};
  std::uint64_t duplicated = 0, reordered = 0, corrupted = 0, marked = 0;
  std::uint64_t peak_queue_frames = 0, peak_queue_bytes = 0;

  std::uint64_t dropped_for(Drop reason) const { return dropped[static_cast<std::size_t>(reason)]; }
};

/// Decides for one direction. Deterministic: equal seeds, frames and instants give equal verdicts.
class Impairer {
 public:
  /// A copy departs up to so much after the first.
  static constexpr Nanos kCopyLag = micros(300);

  Impairer(Impairments impairments, std::uint64_t seed)
      : impairments_(std::move(impairments)), seed_(seed) {}

  /// REQUIRES: `now` never goes back.
  Verdict decide(std::span<const std::uint8_t> frame, Time now);
  const Tally& tally() const { return tally_; }
  /// The peaks of the tally are those from now on.
  void forget_peaks() { tally_.peak_queue_frames = tally_.peak_queue_bytes = 0; }

 private:
  struct Waiting {
    Time until;
    std::size_t bytes = 0;
  };

  bool selected(const FrameView& view) const;
  bool chance(double probability, NetlabPurpose purpose) const;
  /// A number in [0, bound).
  std::uint64_t below(std::uint64_t bound, NetlabPurpose purpose) const;
  Nanos up_to(Nanos most, NetlabPurpose purpose) const {
    return {static_cast<std::int64_t>(below(static_cast<std::uint64_t>(most.ns) + 1, purpose))};
  }
  Drop lose();
  bool lose_in_burst();
  bool is_scripted();
  /// When the frame has passed the queue; nothing if it found no room.
  std::optional<Time> enqueue(std::size_t bytes, Time now, bool& mark);
  Time keep_order(Time departure);
  void damage(std::span<const std::uint8_t> frame, const FrameView& view, Verdict& verdict);
  void count(const Verdict& verdict);

  Impairments impairments_;
  std::uint64_t seed_;
  std::uint64_t number_ = 0;  ///< of the last selected frame
  bool bad_ = false;          ///< state of the burst
  std::size_t next_scripted_ = 0;
  std::deque<Waiting> queue_;
  std::uint64_t queued_bytes_ = 0;
  Time last_departure_{INT64_MIN};
  Tally tally_;
};

/// Changes the frame as the verdict says.
void carry_out(const Verdict& verdict, std::span<std::uint8_t> frame);

}  // namespace toe::netlab

#endif  // TOE_NETLAB_IMPAIRER_H_
