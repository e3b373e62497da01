#include "control/segments.h"

#include <atomic>
#include <bit>

#include "base/check.h"

namespace toe::control {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

// To zero: all words but generation, state, and the hinted bits, which stay true while a hint for
// the line's last use lies in a queue.
void reset_line(shm::Line& l) {
  for (auto* w : {&l.rx_tail, &l.tx_una, &l.rx_switch[0], &l.rx_switch[1], &l.tx_tail, &l.rx_head,
                  &l.tx_switch, &l.rx_interest, &l.tx_interest, &l.urgent_interest, &l.claim,
                  &l.cookie, &l.tx_urgent, &l.rx_urgent_taken, &l.rx_urgent, &l.rx_urgent_here,
                  &l.rx_skip_begin, &l.rx_skip_end}) {
    w->store(0, kRelaxed);
  }
  for (auto* w :
       {&l.flags,      &l.error,           &l.rx_epoch,      &l.rx_ring[0],  &l.rx_ring[1],
        &l.tx_offered, &l.tx_ring[0],      &l.tx_ring[1],    &l.mss,         &l.holders,
        &l.tx_taken,   &l.app_flags,       &l.tx_writing,    &l.spare,       &l.rx_lock,
        &l.tx_lock,    &l.error_taken,     &l.options_epoch, &l.keep_idle_s, &l.keep_interval_s,
        &l.keep_count, &l.user_timeout_ms, &l.linger_s,      &l.rcvbuf,      &l.sndbuf}) {
    w->store(0, kRelaxed);
  }
  for (int i = 0; i < 16; ++i) {
    l.local_addr[i].store(0, kRelaxed);
    l.remote_addr[i].store(0, kRelaxed);
  }
  l.local_port.store(0, kRelaxed);
  l.remote_port.store(0, kRelaxed);
}

}  // namespace

Segment::Segment(SegmentId id, ClientId owner, std::uint32_t uid, std::uint8_t* base)
    : id_(id), owner_(owner), uid_(uid), view_(base) {
  line_free_.fill(~std::uint64_t{0});
  line_free_[0] &= ~std::uint64_t{1};  // line 0 is never used
}

std::uint32_t Segment::take_line(LineUse::Kind kind, std::uint32_t record) {
  while (first_word_ < line_free_.size() && line_free_[first_word_] == 0) ++first_word_;
  if (first_word_ == line_free_.size()) return 0;
  const int bit = std::countr_zero(line_free_[first_word_]);
  line_free_[first_word_] &= ~(std::uint64_t{1} << bit);
  const std::uint32_t line = first_word_ * 64 + static_cast<std::uint32_t>(bit);
  if (line >= lines_.size()) lines_.resize(std::bit_ceil(line + 1));
  lines_[line].kind = kind;
  lines_[line].record = record;
  ++lines_[line].generation;
  ++lines_used_;
  shm::Line& words = view_.line(line);
  reset_line(words);
  words.claim.store(shm::make_claim(lines_[line].generation, shm::kUnclaimed), kRelaxed);
  words.generation.store(lines_[line].generation, std::memory_order_release);
  return line;
}

void Segment::free_line(std::uint32_t line) {
  TOE_CHECK(line_use(line).kind != LineUse::Kind::kFree);
  shm::Line& words = view_.line(line);
  lines_[line].kind = LineUse::Kind::kFree;
  lines_[line].record = kNil;
  words.state.store(static_cast<std::uint32_t>(shm::LineState::kFree), std::memory_order_release);
  words.generation.store(++lines_[line].generation, std::memory_order_release);
  line_free_[line / 64] |= std::uint64_t{1} << (line % 64);
  if (line / 64 < first_word_) first_word_ = line / 64;
  --lines_used_;
}

LineUse Segment::line_use(std::uint32_t line) const {
  return line < lines_.size() ? lines_[line] : LineUse{};
}

std::uint32_t Segment::open_context(const ContextUse& use) {
  for (std::uint32_t slot = 1; slot < shm::kContexts; ++slot) {
    if (contexts_[slot].client != kNoClient) continue;
    contexts_[slot] = use;
    ++contexts_used_;
    shm::Context& c = view_.context(slot);
    for (auto* w : {&c.app_tail, &c.engine_head, &c.app_head, &c.engine_tail, &c.sleep_epoch}) {
      w->store(0, std::memory_order_relaxed);
    }
    return slot;
  }
  return 0;
}

std::uint64_t Segment::contexts_of(ClientId client) const {
  std::uint64_t mask = 0;
  for (std::uint32_t slot = 1; slot < shm::kContexts; ++slot) {
    if (contexts_[slot].client == client) mask |= std::uint64_t{1} << slot;
  }
  return mask;
}

bool Segment::wipe_line(std::uint32_t line, std::uint64_t mask) {
  shm::Line& l = view_.line(line);
  bool found = false;
  for (auto* w :
       {&l.rx_interest, &l.tx_interest, &l.urgent_interest, &l.hinted_app, &l.hinted_engine}) {
    if ((w->load(kRelaxed) & mask) == 0) continue;
    w->fetch_and(~mask, kRelaxed);
    found = true;
  }
  for (auto* w : {&l.rx_lock, &l.tx_lock}) {  // locks of a dead process
    std::uint32_t held = w->load(kRelaxed);
    if (held == 0 || held > shm::kContexts || (mask >> (held - 1) & 1) == 0) continue;
    w->compare_exchange_strong(held, 0, std::memory_order_acq_rel);
    found = true;
  }
  return found;
}

void Segment::close_contexts(std::uint64_t mask) {
  view_.header().posted.fetch_and(~mask, kRelaxed);
  for (; mask != 0; mask &= mask - 1) {
    contexts_[static_cast<std::size_t>(std::countr_zero(mask))] = {};
    --contexts_used_;
  }
}

}  // namespace toe::control
