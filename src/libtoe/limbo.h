// Sockets that were sent to another process and closed here: the hold is kept a moment longer,
// until the receiver has shown them to the engine.
#ifndef TOE_LIBTOE_LIMBO_H_
#define TOE_LIBTOE_LIMBO_H_

#include <sys/socket.h>

#include <cstdint>

#include "libtoe/socket.h"

namespace toe::libtoe {

/// Marks the offloaded sockets among the descriptors that `message` carries.
void note_sent(const msghdr& message);
/// Gives up the hold of a marked socket later. The socket itself may be reused at once.
void release_later(Socket& socket, shm::HintOp op);
/// Gives up what has waited long enough. Called on rare paths; cheap when nothing waits.
void release_due();
/// `left` (negative: no limit), shortened so that a sleep ends in time for release_due().
std::int64_t until_release(std::int64_t left);
/// Fork child: the holds are the parent's.
void forget_releases();

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_LIMBO_H_
