// Sockets that this process did not open: inherited by exec or fork, received over a UNIX socket.
#ifndef TOE_LIBTOE_INHERIT_H_
#define TOE_LIBTOE_INHERIT_H_

#include <sys/socket.h>

#include <span>

#include "libtoe/runtime.h"

namespace toe::libtoe {

/// At load: shows every TCP socket among the open descriptors.
void show_inherited(Attachment& attachment);
/// Descriptors that came with SCM_RIGHTS in `message` or otherwise: shows the TCP sockets.
void show_received(const msghdr& message);
/// Fork child: closes the parent's control descriptors, attaches, and shows what is offloaded.
void adopt_after_fork(Attachment& parents);

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_INHERIT_H_
