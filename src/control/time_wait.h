// TIME-WAIT: what remains of a connection that this side closed first, so that late segments of it
// harm no later one (RFC 9293 section 3.6.1). All records wait equally long, so the order of
// expiry is the order of (re)start: a list, no timers.
#ifndef TOE_CONTROL_TIME_WAIT_H_
#define TOE_CONTROL_TIME_WAIT_H_

#include <cstdint>
#include <vector>

#include "base/types.h"
#include "control/index_list.h"
#include "control/key_index.h"
#include "flow/key.h"

namespace toe::control {

struct TimeWaitRecord {
  flow::FlowKey key;
  std::uint32_t snd_nxt = 0;
  std::uint32_t rcv_nxt = 0;
  std::uint32_t ts_recent = 0;
  std::uint32_t answered_ms = 0;  ///< when it last answered what needs no answer
  std::uint32_t expires_ms = 0;  ///< low 32 bits of the millisecond clock; the list gives the order
  std::uint32_t next = kNil;
  std::uint32_t prev : 31 = kNil >> 1;
  std::uint32_t ts_on : 1 = 0;
};
static_assert(sizeof(TimeWaitRecord) <= 64);

class TimeWaitTable {
 public:
  TimeWaitTable(std::uint32_t capacity, Nanos wait, flow::HashKey secret);

  /// kNil when absent.
  std::uint32_t find(const flow::FlowKey& key) const;
  /// Adds a record (its links and expiry are set here) and returns its number; kNil when full.
  /// REQUIRES: the key is absent.
  std::uint32_t add(const TimeWaitRecord& record, Time now);
  /// True when record `i` may answer a segment that needs no answer (RFC 5961 section 7).
  bool may_answer(std::uint32_t i, Time now);
  /// Starts the wait anew (the peer's FIN came again).
  void restart(std::uint32_t i, Time now);
  void remove(std::uint32_t i);

  /// The oldest record if its wait is over at `now`, else kNil.
  std::uint32_t expired(Time now) const;
  /// The oldest record; kNil when empty.
  std::uint32_t oldest() const { return head_; }
  Time next_deadline(Time now) const;

  const TimeWaitRecord& at(std::uint32_t i) const { return records_[i]; }
  bool in_use(std::uint32_t i) const { return used_[i]; }
  std::uint32_t count() const { return count_; }
  std::uint32_t capacity() const { return static_cast<std::uint32_t>(records_.size()); }

 private:
  static constexpr std::uint32_t kNoPrev = kNil >> 1;
  void link_last(std::uint32_t i, Time now);
  void unlink_record(std::uint32_t i);

  Nanos wait_;
  KeyIndex index_;
  std::vector<TimeWaitRecord> records_;
  std::vector<bool> used_;
  std::uint32_t head_ = kNil;
  std::uint32_t tail_ = kNil;
  std::uint32_t free_ = kNil;  ///< first free record, linked by `next`
  std::uint32_t fresh_ = 0;    ///< records never used begin here
  std::uint32_t count_ = 0;
};

}  // namespace toe::control

#endif  // TOE_CONTROL_TIME_WAIT_H_
