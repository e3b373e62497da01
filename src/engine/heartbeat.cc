#include "engine/heartbeat.h"

namespace toe::engine {

void Heartbeat::poll(Time now) {
  if (interval_.ns == 0) return;
  if (asked_ && answer_.done.load(std::memory_order_acquire)) {
    asked_ = false;
    manager_.alive();
  }
  if (now < next_) return;
  next_ = now + interval_;
  if (asked_) return;
  asked_ = true;
  answer_.done.store(false, std::memory_order_relaxed);
  Order order;
  order.kind = Order::Kind::kSnapshot;
  order.snapshot = &answer_;
  bridge_.send(order);
}

}  // namespace toe::engine
