// What a wire does to the frames of one direction, as a value and as text.
//
// The text is a list "loss=1%,delay=10ms,...": docs/netlab.md has the table of keys.
#ifndef TOE_NETLAB_IMPAIRMENTS_H_
#define TOE_NETLAB_IMPAIRMENTS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace toe::netlab {

/// Which frames are numbered, and may be lost, doubled, moved, damaged or marked. Delay, rate and
/// queue are for all.
enum class Select : std::uint8_t {
  kAll,
  kTcp,   ///< not, for example, the frames by which neighbours find each other
  kData,  ///< TCP segments with payload
};

/// Loss in bursts (Gilbert and Elliott): a good state that loses nothing and a bad one.
struct Burst {
  double enter = 0;  ///< chance per frame to go from good to bad
  double leave = 1;  ///< and back
  double loss = 1;   ///< chance of loss while bad
};

/// A number of frames, of bytes, or of either; 0 means any.
struct Amount {
  std::uint64_t frames = 0;
  std::uint64_t bytes = 0;
};

/// Frame numbers from `first` to `last`; the first frame of a direction has number 1.
struct FrameRange {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
};

struct Impairments {
  Select select = Select::kAll;

  double loss = 0;
  Burst burst;
  std::uint64_t every = 0;       ///< each n-th frame is lost; 0: none
  std::vector<FrameRange> lose;  ///< exactly these are

  double duplicate = 0;
  double reorder = 0;
  Nanos reorder_by = millis(2);        ///< how long a frame is held back, at most
  std::uint32_t reorder_distance = 0;  ///< it goes on earlier, once so many have overtaken it
  double corrupt = 0;                  ///< one flipped bit where a checksum finds it

  Nanos delay{0};
  Nanos jitter{0};         ///< added at random, at most; keeps the order
  std::uint64_t rate = 0;  ///< bits per second of whole frames; 0: any
  Amount queue{1000, 0};   ///< what waits for the rate; more is lost

  double mark = 0;    ///< chance of "congestion experienced" on a frame that permits it
  Amount mark_above;  ///< or always while so much waits in the queue

  static Result<Impairments> parse(std::string_view text);
  /// What parse() reads as this value; "" for a perfect wire.
  std::string text() const;
};

}  // namespace toe::netlab

#endif  // TOE_NETLAB_IMPAIRMENTS_H_
