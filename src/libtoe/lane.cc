#include "libtoe/lane.h"

namespace toe::libtoe {

void Lane::open(MappedSegment* segment, std::uint32_t slot, EngineBell* bell) {
  segment_ = segment;
  slot_ = slot;
  bell_ = bell;
  shm::Context& context = segment->view.context(slot);
  reader_ = shm::HintReader(segment->view.app_queue(slot), &context.app_tail, &context.app_head);
  writer_ =
      shm::HintWriter(segment->view.engine_queue(slot), &context.engine_tail, &context.engine_head);
  shm::wake_up(context.sleep_epoch);
}

void Lane::post(std::uint32_t line, shm::HintOp op) {
  if (bell_->muted.load(std::memory_order_relaxed)) return;
  if (op == shm::HintOp::kLook &&
      !shm::mark_hinted(segment_->view.line(line).hinted_engine, slot_)) {
    return;  // a look is under way and will see what the caller stored
  }
  {
    MutexLock lock(write_mutex_);
    // The bound of one look, close and accept per line makes a full queue impossible.
    if (!writer_.append(shm::make_hint(op, line))) return;
  }
  segment_->view.header().posted.fetch_or(bit(), std::memory_order_seq_cst);
  if (bell_->ringer.must_ring(bell_->page->sleep_epoch)) bell_->link->ring();
}

bool Lane::take(std::uint32_t& line) {
  std::uint32_t entry = 0;
  if (reader_.take(entry) != shm::Taken::kEntry) return false;
  line = shm::hint_line(entry) % shm::kLines;
  shm::clear_hinted(segment_->view.line(line).hinted_app, slot_);
  return true;
}

}  // namespace toe::libtoe
