#include "control/time_wait.h"

#include "base/check.h"

namespace toe::control {
namespace {

constexpr std::uint32_t kAnswerIntervalMs = 500;  // as Linux tcp_invalid_ratelimit

std::uint32_t millisecond_clock(Time t) { return static_cast<std::uint32_t>(t.ns / 1'000'000); }

}  // namespace

TimeWaitTable::TimeWaitTable(std::uint32_t capacity, Nanos wait, flow::HashKey secret)
    : wait_(wait), index_(capacity, secret), records_(capacity), used_(capacity, false) {
  TOE_CHECK(capacity < kNoPrev);
}

std::uint32_t TimeWaitTable::find(const flow::FlowKey& key) const {
  return index_.find(key,
                     [this](std::uint32_t i) -> const flow::FlowKey& { return records_[i].key; });
}

std::uint32_t TimeWaitTable::add(const TimeWaitRecord& record, Time now) {
  std::uint32_t i = free_;
  if (i != kNil) {
    free_ = records_[i].next;
  } else if (fresh_ < records_.size()) {
    i = fresh_++;
  } else {
    return kNil;
  }
  records_[i] = record;
  records_[i].answered_ms = millisecond_clock(now) - kAnswerIntervalMs;
  used_[i] = true;
  ++count_;
  index_.insert(record.key, i);
  link_last(i, now);
  return i;
}

bool TimeWaitTable::may_answer(std::uint32_t i, Time now) {
  const std::uint32_t clock = millisecond_clock(now);
  if (clock - records_[i].answered_ms < kAnswerIntervalMs) return false;
  records_[i].answered_ms = clock;
  return true;
}

void TimeWaitTable::restart(std::uint32_t i, Time now) {
  unlink_record(i);
  link_last(i, now);
}

void TimeWaitTable::remove(std::uint32_t i) {
  TOE_CHECK(used_[i]);
  index_.erase(records_[i].key, i);
  unlink_record(i);
  used_[i] = false;
  --count_;
  records_[i].next = free_;
  free_ = i;
}

std::uint32_t TimeWaitTable::expired(Time now) const {
  if (head_ == kNil) return kNil;
  const auto left = static_cast<std::int32_t>(records_[head_].expires_ms - millisecond_clock(now));
  return left <= 0 ? head_ : kNil;
}

Time TimeWaitTable::next_deadline(Time now) const {
  if (head_ == kNil) return Time::never();
  const auto left = static_cast<std::int32_t>(records_[head_].expires_ms - millisecond_clock(now));
  return left <= 0 ? now : now + millis(left);
}

void TimeWaitTable::link_last(std::uint32_t i, Time now) {
  TimeWaitRecord& r = records_[i];
  r.expires_ms = millisecond_clock(now + wait_) + 1;
  r.next = kNil;
  r.prev = tail_ & kNoPrev;
  if (tail_ == kNil) {
    head_ = i;
  } else {
    records_[tail_].next = i;
  }
  tail_ = i;
}

void TimeWaitTable::unlink_record(std::uint32_t i) {
  const TimeWaitRecord& r = records_[i];
  const std::uint32_t prev = r.prev == kNoPrev ? kNil : r.prev;
  if (prev == kNil) {
    head_ = r.next;
  } else {
    records_[prev].next = r.next;
  }
  if (r.next == kNil) {
    tail_ = prev;
  } else {
    records_[r.next].prev = r.prev;
  }
}

}  // namespace toe::control
