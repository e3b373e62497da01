#include "netlab/impairer.h"

#include <algorithm>
#include <utility>

namespace toe::netlab {

bool Impairer::selected(const FrameView& view) const {
  switch (impairments_.select) {
    case Select::kAll:
      return true;
    case Select::kTcp:
      return view.tcp;
    case Select::kData:
      return view.payload > 0;
  }
  return false;
}

bool Impairer::chance(double probability, NetlabPurpose purpose) const {
  if (probability <= 0) return false;
  const double bound = probability * static_cast<double>(NETLAB_CERTAIN);
  return static_cast<double>(netlab_draw(seed_, number_, purpose)) < bound;
}

std::uint64_t Impairer::below(std::uint64_t bound, NetlabPurpose purpose) const {
  // Jitter is for all frames, whether numbered or not.
  const std::uint64_t number = purpose == kNetlabJitter ? tally_.frames : number_;
  return netlab_draw(seed_, number, purpose) % bound;
}

Verdict Impairer::decide(std::span<const std::uint8_t> frame, Time now) {
  tally_.frames++;
  tally_.bytes += frame.size();
  const FrameView view = look(frame);
  const bool touched = selected(view);
  Verdict verdict;
  if (touched) {
    ++number_;
    verdict.drop = lose();
  }
  std::optional<Time> sent;
  if (verdict.drop == Drop::kNone) {
    sent = enqueue(frame.size(), now, verdict.mark);
    if (!sent) verdict.drop = Drop::kQueueFull;
  }
  if (verdict.drop != Drop::kNone) {
    verdict.copies = 0;
    verdict.mark = false;
    count(verdict);
    return verdict;
  }
  verdict.departure[0] = keep_order(*sent + impairments_.delay);
  if (touched) damage(frame, view, verdict);
  verdict.mark = verdict.mark && touched && permits_mark(frame, view);
  count(verdict);
  return verdict;
}

/// Every cause is asked, so that none depends on another.
Drop Impairer::lose() {
  const bool burst = lose_in_burst();
  if (is_scripted()) return Drop::kScript;
  if (impairments_.every != 0 && number_ % impairments_.every == 0) return Drop::kEvery;
  if (burst) return Drop::kBurst;
  return chance(impairments_.loss, kNetlabLoss) ? Drop::kLoss : Drop::kNone;
}

bool Impairer::lose_in_burst() {
  const Burst& burst = impairments_.burst;
  if (burst.enter <= 0) return false;
  if (chance(bad_ ? burst.leave : burst.enter, kNetlabBurstState)) bad_ = !bad_;
  return bad_ && chance(burst.loss, kNetlabBurstLoss);
}

bool Impairer::is_scripted() {
  const auto& lose = impairments_.lose;
  while (next_scripted_ < lose.size() && lose[next_scripted_].last < number_) ++next_scripted_;
  return next_scripted_ < lose.size() && lose[next_scripted_].first <= number_;
}

/// The queue is a row of frames under transmission at the rate: it holds those that are not sent.
std::optional<Time> Impairer::enqueue(std::size_t bytes, Time now, bool& mark) {
  const Amount& above = impairments_.mark_above;
  mark = chance(impairments_.mark, kNetlabMark);
  if (impairments_.rate == 0) return now;
  while (!queue_.empty() && queue_.front().until <= now) {
    queued_bytes_ -= queue_.front().bytes;
    queue_.pop_front();
  }
  const Amount& room = impairments_.queue;
  if ((room.frames != 0 && queue_.size() >= room.frames) ||
      (room.bytes != 0 && queued_bytes_ + bytes > room.bytes)) {
    return std::nullopt;
  }
  mark = mark || (above.frames != 0 && queue_.size() >= above.frames) ||
         (above.bytes != 0 && queued_bytes_ >= above.bytes);
  const Time start = queue_.empty() ? now : queue_.back().until;
  const Time until =
      start + Nanos{static_cast<std::int64_t>(bytes * 8'000'000'000u / impairments_.rate)};
  queue_.push_back({until, bytes});
  queued_bytes_ += bytes;
  tally_.peak_queue_frames = std::max<std::uint64_t>(tally_.peak_queue_frames, queue_.size());
  tally_.peak_queue_bytes = std::max(tally_.peak_queue_bytes, queued_bytes_);
  return until;
}

Time Impairer::keep_order(Time departure) {
  if (impairments_.jitter.ns > 0) departure = departure + up_to(impairments_.jitter, kNetlabJitter);
  last_departure_ = std::max(last_departure_, departure);
  return last_departure_;
}

void Impairer::damage(std::span<const std::uint8_t> frame, const FrameView& view,
                      Verdict& verdict) {
  const Time on_time = verdict.departure[0];
  if (chance(impairments_.duplicate, kNetlabDuplicate)) {
    verdict.copies = 2;
    verdict.departure[1] = on_time + up_to(kCopyLag, kNetlabDuplicateLag);
  }
  if (chance(impairments_.reorder, kNetlabReorder)) {
    const Nanos half = impairments_.reorder_by / 2;
    verdict.reordered = true;
    verdict.behind = impairments_.reorder_distance;
    verdict.departure[0] = on_time + impairments_.reorder_by;
    if (verdict.behind == 0) {
      verdict.departure[0] = verdict.departure[0] - up_to(half, kNetlabReorderLag);
    }
  }
  const std::size_t first = first_checked_byte(frame, view);
  if (first < frame.size() && chance(impairments_.corrupt, kNetlabCorrupt)) {
    verdict.flip = first * 8 + below((frame.size() - first) * 8, kNetlabCorruptBit);
  }
}

void Impairer::count(const Verdict& verdict) {
  tally_.selected = number_;
  if (verdict.drop != Drop::kNone) tally_.dropped[static_cast<std::size_t>(verdict.drop)]++;
  tally_.duplicated += verdict.copies > 1;
  tally_.reordered += verdict.reordered;
  tally_.corrupted += verdict.flip.has_value();
  tally_.marked += verdict.mark;
}

void carry_out(const Verdict& verdict, std::span<std::uint8_t> frame) {
  if (verdict.mark) mark_congestion(frame, look(frame));
  if (verdict.flip) {
    frame[*verdict.flip / 8] ^= static_cast<std::uint8_t>(1u << *verdict.flip % 8);
  }
}

}  // namespace toe::netlab
