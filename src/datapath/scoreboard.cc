#include "datapath/scoreboard.h"

#include <algorithm>

#include "base/check.h"

namespace toe::datapath {
namespace {

/// The delivered piece of a run competes for being the one that was sent last.
void later(Delivery::Latest& latest, Time sent, std::uint64_t end) {
  if (latest.end == 0 || sent > latest.sent || (sent == latest.sent && end > latest.end)) {
    latest = {sent, end};
  }
}

}  // namespace

void Scoreboard::reset(std::uint64_t una) {
  count_ = 0;
  begin_ = una;
  sacked_ = lost_ = resent_ = 0;
}

void Scoreboard::count_run(std::uint32_t i, int sign) {
  const Run& run = runs_[i];
  std::uint64_t* const sum = run.sacked  ? &sacked_
                             : run.lost  ? &lost_
                             : run.again ? &resent_
                                         : nullptr;
  if (sum == nullptr) return;
  *sum = sign > 0 ? *sum + bytes_of(i) : *sum - bytes_of(i);
}

void Scoreboard::add(std::uint64_t end, Time sent) {
  TOE_DCHECK(end >= this->end());
  if (end == this->end()) return;
  Run run{};
  run.end = end;
  run.set_sent(sent);
  make_room(1);
  if (count_ != 0 && alike(runs_[count_ - 1], run)) {
    runs_[count_ - 1].end = end;
    return;
  }
  runs_[count_++] = run;
}

void Scoreboard::advance(std::uint64_t una, Delivery& delivery) {
  TOE_DCHECK(una <= end());
  std::uint32_t gone = 0;
  while (gone < count_ && begin_ < una) {
    const Run& run = runs_[gone];
    const std::uint64_t end = std::min(run.end, una);
    if (run.sacked) {
      sacked_ -= end - begin_;
    } else {
      if (run.lost) {
        lost_ -= end - begin_;
      } else if (run.again) {
        resent_ -= end - begin_;
      }
      deliver(begin_, end, run, delivery);
    }
    begin_ = end;
    if (run.end == end) ++gone;
  }
  begin_ = std::max(begin_, una);
  delivery.highest = std::max(delivery.highest, una);
  std::move(runs_.begin() + gone, runs_.begin() + count_, runs_.begin());
  count_ -= gone;
}

void Scoreboard::sack(std::uint64_t begin, std::uint64_t end, Delivery& delivery) {
  begin = std::max(begin, begin_);
  end = std::min(end, this->end());
  if (begin >= end) return;
  make_room(2);
  const std::uint32_t first = cut(begin);
  const std::uint32_t last = cut(end);
  for (std::uint32_t i = first; i < last; ++i) {
    Run& run = runs_[i];
    if (run.sacked) continue;
    deliver(begin_of(i), run.end, run, delivery);
    count_run(i, -1);
    run.lost = false;
    run.sacked = true;
    count_run(i, +1);
  }
  delivery.highest = std::max(delivery.highest, end);
  tidy(first, last);
}

void Scoreboard::resent(std::uint64_t begin, std::uint64_t end, Time now) {
  TOE_DCHECK(begin >= begin_ && end <= this->end() && begin < end);
  make_room(2);
  const std::uint32_t first = cut(begin);
  const std::uint32_t last = cut(end);
  for (std::uint32_t i = first; i < last; ++i) {
    Run& run = runs_[i];
    if (run.sacked) continue;
    count_run(i, -1);
    run.lost = false;
    run.again = true;
    run.set_sent(now);
    count_run(i, +1);
  }
  tidy(first, last);
}

void Scoreboard::lose(std::uint64_t begin, std::uint64_t end) {
  TOE_DCHECK(begin >= begin_ && end <= this->end());
  if (begin >= end) return;
  make_room(2);
  const std::uint32_t first = cut(begin);
  const std::uint32_t last = cut(end);
  for (std::uint32_t i = first; i < last; ++i) {
    if (!runs_[i].sacked && !runs_[i].lost) lose_run(i);
  }
  tidy(first, last);
}

void Scoreboard::lose_run(std::uint32_t i) {
  TOE_DCHECK(!runs_[i].sacked && !runs_[i].lost);
  count_run(i, -1);
  runs_[i].lost = true;
  count_run(i, +1);
}

bool Scoreboard::next_lost(std::uint64_t& begin, std::uint64_t& end) const {
  if (lost_ == 0) return false;
  std::uint32_t i = 0;
  while (!runs_[i].lost) ++i;
  begin = begin_of(i);
  while (i + 1 < count_ && runs_[i + 1].lost) ++i;
  end = runs_[i].end;
  return true;
}

void Scoreboard::unlose() {
  for (std::uint32_t i = 0; i < count_; ++i) {
    count_run(i, -1);
    runs_[i].lost = false;
    count_run(i, +1);
  }
  tidy(0, count_);
}

void Scoreboard::unsack() {
  for (std::uint32_t i = 0; i < count_; ++i) {
    count_run(i, -1);
    runs_[i].sacked = false;
    count_run(i, +1);
  }
  tidy(0, count_);
}

// Of what the peer has, neither time nor history matters any more.
bool Scoreboard::alike(const Run& a, const Run& b) {
  if (a.sacked || b.sacked) return a.sacked == b.sacked;
  return a.lost == b.lost && a.again == b.again && a.sent_ns == b.sent_ns;
}

// Joins run i with the one before it into what is safe to believe of both.
void Scoreboard::join(std::uint32_t i) {
  Run& low = runs_[i - 1];
  Run& high = runs_[i];
  count_run(i - 1, -1);
  count_run(i, -1);
  high.sacked = low.sacked && high.sacked;
  high.lost = !high.sacked && (low.lost || high.lost);
  high.again = low.again || high.again;
  high.set_sent(std::max(low.sent(), high.sent()));
  std::move(runs_.begin() + i, runs_.begin() + count_, runs_.begin() + i - 1);
  --count_;
  count_run(i - 1, +1);
}

void Scoreboard::make_room(std::uint32_t runs) {
  while (count_ + runs > bound_) {
    std::uint32_t i = count_ - 1;
    const auto same_state = [this](std::uint32_t at) {
      const Run& a = runs_[at - 1];
      const Run& b = runs_[at];
      return !a.sacked && !b.sacked && a.lost == b.lost && a.again == b.again;
    };
    while (i > 0 && !same_state(i)) --i;
    join(i > 0 ? i : count_ - 1);
  }
}

// Makes `position` the beginning of a run and returns which. REQUIRES: room for one.
std::uint32_t Scoreboard::cut(std::uint64_t position) {
  const auto at = std::lower_bound(runs_.begin(), runs_.begin() + count_, position,
                                   [](const Run& run, std::uint64_t p) { return run.end <= p; });
  const auto i = static_cast<std::uint32_t>(at - runs_.begin());
  if (i == count_ || begin_of(i) == position) return i;
  TOE_DCHECK(count_ < bound_);
  std::move_backward(at, runs_.begin() + count_, runs_.begin() + count_ + 1);
  runs_[i].end = position;
  ++count_;
  return i + 1;
}

// Runs [first, last) have changed: they and their neighbours become one where they are alike.
void Scoreboard::tidy(std::uint32_t first, std::uint32_t last) {
  if (count_ == 0) return;
  std::uint32_t to = first == 0 ? 0 : first - 1;
  const std::uint32_t end = std::min(last + 1, count_);
  for (std::uint32_t i = to + 1; i < end; ++i) {
    if (alike(runs_[to], runs_[i])) {
      runs_[to].end = runs_[i].end;
    } else {
      runs_[++to] = runs_[i];
    }
  }
  if (to + 1 >= end) return;
  std::move(runs_.begin() + end, runs_.begin() + count_, runs_.begin() + to + 1);
  count_ -= end - (to + 1);
}

void Scoreboard::deliver(std::uint64_t begin, std::uint64_t end, const Run& run,
                         Delivery& delivery) {
  delivery.bytes += end - begin;
  if (run.again) {
    later(delivery.again, run.sent(), end);
  } else {
    later(delivery.fresh, run.sent(), end);
    delivery.lowest_fresh = std::min(delivery.lowest_fresh, begin);
  }
}

}  // namespace toe::datapath
