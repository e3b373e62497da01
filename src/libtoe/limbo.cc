#include "libtoe/limbo.h"

#include <algorithm>
#include <vector>

#include "libtoe/passed_fds.h"
#include "libtoe/wait_context.h"

namespace toe::libtoe {
namespace {

/// Time for a receiver to take a descriptor from its socket and show it.
constexpr std::int64_t kGraceNs = 1'000'000'000;

struct Release {
  Attachment* attachment;
  Lane* lane;
  std::uint32_t line;
  shm::HintOp op;
  std::int64_t due_ns;
};

Mutex g_mutex;
std::atomic<std::uint32_t> g_waiting{0};

std::vector<Release>& releases() {
  static auto* list = new std::vector<Release>;  // never destroyed: exit handlers close sockets
  return *list;
}

}  // namespace

void note_sent(const msghdr& message) {
  if (message.msg_controllen == 0 || !any_socket_offloaded()) return;
  for_each_passed_fd(message, [](int fd) {
    if (Socket* socket = offloaded_socket(fd)) socket->passed.store(true);
  });
}

void release_later(Socket& socket, shm::HintOp op) {
  const bool listener = socket.role() == Role::kListener;
  Lane& lane = listener ? socket.listener.lane() : socket.connection.home();
  const std::uint32_t line =
      listener ? socket.listener.line_index() : socket.connection.line_index();
  MutexLock lock(g_mutex);
  releases().push_back({socket.attachment.load(), &lane, line, op, now_ns() + kGraceNs});
  g_waiting.fetch_add(1, std::memory_order_relaxed);
}

void release_due() {
  if (g_waiting.load(std::memory_order_relaxed) == 0) return;
  const std::int64_t now = now_ns();
  MutexLock lock(g_mutex);
  auto& list = releases();
  const auto kept = std::remove_if(list.begin(), list.end(), [now](const Release& release) {
    if (release.due_ns > now) return false;
    if (release.attachment->client.alive()) release.lane->post(release.line, release.op);
    return true;
  });
  list.erase(kept, list.end());
  g_waiting.store(static_cast<std::uint32_t>(list.size()), std::memory_order_relaxed);
}

std::int64_t until_release(std::int64_t left) {
  if (g_waiting.load(std::memory_order_relaxed) == 0) return left;
  return left < 0 ? kGraceNs : std::min(left, kGraceNs);
}

void forget_releases() {
  g_mutex.reset();
  releases().clear();
  g_waiting.store(0, std::memory_order_relaxed);
}

}  // namespace toe::libtoe
