#include "engine/bridge.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstring>

#include "base/limits.h"

namespace toe::engine {
namespace {

/// Steps after which commands given before are carried out even if no step was idle: the command
/// ring is emptied by at least kBurst a step.
constexpr std::uint32_t kSettledSteps = 2 * kCommandRing / kBurst;

}  // namespace

template <typename T>
void Channel<T>::wake() const {
  const std::uint64_t one = 1;
  // Fails only when the counter is full, and then the reader is awake anyhow.
  (void)!::write(event_.get(), &one, sizeof one);
}

template <typename T>
void Channel<T>::clear_event() const {
  std::uint64_t count = 0;
  (void)!::read(event_.get(), &count, sizeof count);
}

template class Channel<Order>;
template class Channel<Note>;

Bridge::Bridge(shm::EnginePage& page, UniqueFd order_event, UniqueFd note_event)
    : orders(kOrderRing, std::move(order_event)),
      notes(kNoteRing, std::move(note_event)),
      page_(page) {}

Result<std::unique_ptr<Bridge>> Bridge::make(shm::EnginePage& page) {
  UniqueFd order_event(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  UniqueFd note_event(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!order_event.valid() || !note_event.valid()) {
    return Error{errno, std::string("cannot make an eventfd: ") + std::strerror(errno)};
  }
  return std::unique_ptr<Bridge>(new Bridge(page, std::move(order_event), std::move(note_event)));
}

void Bridge::send(const Order& order) {
  TOE_CHECK(orders.push(order));  // bounded: clients are read only while nothing waits
  wake_sleeper();
}

void Bridge::wake_sleeper() const {
  // Pairs with the fence between the worker's odd epoch and its last look at the ring.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (page_.sleep_epoch.load(std::memory_order_relaxed) & 1) orders.wake();
}

bool Bridge::settle() {
  const bool all = orders.flush();
  if (!orders.empty()) wake_sleeper();
  return all;
}

void Bridge::send(const control::Request& request) {
  Order order;
  order.request = request;
  send(order);
}

void WorldBridge::note(const Note& note) {
  pushed_ = true;
  if (!bridge_.notes.push(note)) delete[] note.bytes;
}

void WorldBridge::after_step(bool idle) {
  for (Leaving& leaving : leaving_) ++leaving.steps;
  while (!leaving_.empty() &&
         (idle ? leaving_.front().steps >= 2 : leaving_.front().steps >= kSettledSteps)) {
    Note gone;
    gone.kind = Note::Kind::kFreeSegment;
    gone.segment = leaving_.front().segment;
    note(gone);
    leaving_.erase(leaving_.begin());
  }
  if (!pushed_) return;
  pushed_ = !bridge_.notes.flush();
  bridge_.notes.wake();
}

void WorldBridge::transmit(Frame) { TOE_CHECK(false && "transmit() belongs to Core"); }
void WorldBridge::reinject(Frame) { TOE_CHECK(false && "reinject() belongs to Core"); }

void WorldBridge::reply(ClientId client, std::span<const std::uint8_t> message) {
  Note reply;
  reply.kind = Note::Kind::kReply;
  reply.client = client;
  reply.length = static_cast<std::uint32_t>(message.size());
  reply.bytes = new std::uint8_t[message.size()];
  std::memcpy(reply.bytes, message.data(), message.size());
  note(reply);
}

void WorldBridge::share_segment(ClientId client, SegmentId segment) {
  Note share;
  share.kind = Note::Kind::kShareSegment;
  share.client = client;
  share.segment = segment;
  note(share);
}

void WorldBridge::want_segment(ClientId client) {
  Note want;
  want.kind = Note::Kind::kWantSegment;
  want.client = client;
  note(want);
}

void WorldBridge::free_segment(SegmentId segment) { leaving_.push_back({segment}); }

void WorldBridge::drop_client(ClientId client, const char* reason) {
  Note drop;
  drop.kind = Note::Kind::kDropClient;
  drop.client = client;
  drop.reason = reason;
  note(drop);
}

void WorldBridge::want_route(const control::RouteKey& key) {
  Note want;
  want.kind = Note::Kind::kWantRoute;
  want.route = key;
  note(want);
}

void WorldBridge::forget_route(const control::RouteKey& key) {
  Note forget;
  forget.kind = Note::Kind::kForgetRoute;
  forget.route = key;
  note(forget);
}

void WorldBridge::confirm_neighbor(const control::RouteKey& key) {
  Note confirm;
  confirm.kind = Note::Kind::kConfirmNeighbor;
  confirm.route = key;
  note(confirm);
}

void WorldBridge::return_pages(SegmentId segment, shm::RingRef ring) {
  Note give;
  give.kind = Note::Kind::kReturnPages;
  give.segment = segment;
  give.ring = ring;
  note(give);
}

void WorldBridge::mark_listener(std::uint64_t cookie) {
  Note mark;
  mark.kind = Note::Kind::kMarkListener;
  mark.cookie = cookie;
  note(mark);
}

void WorldBridge::close_listener(std::uint64_t cookie) {
  Note close;
  close.kind = Note::Kind::kCloseListener;
  close.cookie = cookie;
  note(close);
}

void WorldBridge::release_port(const IpAddr& local, std::uint16_t port) {
  Note release;
  release.kind = Note::Kind::kReleasePort;
  release.address = local;
  release.port = port;
  note(release);
}

void WorldBridge::want_port(const IpAddr& local) {
  Note want;
  want.kind = Note::Kind::kWantPort;
  want.address = local;
  note(want);
}

}  // namespace toe::engine
