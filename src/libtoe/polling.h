// poll and select over any mix of offloaded sockets, epoll instances and kernel descriptors.
#ifndef TOE_LIBTOE_POLLING_H_
#define TOE_LIBTOE_POLLING_H_

#include <poll.h>
#include <sys/select.h>
#include <time.h>

#include <cstdint>
#include <span>

namespace toe::libtoe {

/// True when libc cannot serve the set alone.
bool any_offloaded(std::span<const pollfd> fds);
/// ppoll(2) in nanoseconds (negative: no limit). A count or a negative errno.
int mixed_poll(std::span<pollfd> fds, std::int64_t timeout_ns, const sigset_t* mask);

struct SelectSets {
  fd_set* read;
  fd_set* write;
  fd_set* except;
};
bool any_offloaded(int count, const SelectSets& sets);
/// pselect(2); does not touch the time-out.
int mixed_select(int count, const SelectSets& sets, std::int64_t timeout_ns, const sigset_t* mask);

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_POLLING_H_
