// Sockets that this process did not open: inherited by exec or fork, received over a UNIX socket.
#ifndef TOE_LIBTOE_INHERIT_H_
#define TOE_LIBTOE_INHERIT_H_

#include <sys/socket.h>

#include <span>

#include "libtoe/runtime.h"

namespace toe::libtoe {

/// At load: shows every TCP socket among the open descriptors, then closes control connections to
/// `path` that the former program left open for this one.
void show_inherited(Attachment& attachment, const char* path);
/// Around exec: while it lasts, the control connection survives exec if an offloaded socket does,
/// so that the hold does not end before the new program shows its sockets.
class KeepOverExec {
 public:
  KeepOverExec();
  ~KeepOverExec();  // exec has failed
  KeepOverExec(const KeepOverExec&) = delete;
  KeepOverExec& operator=(const KeepOverExec&) = delete;

 private:
  int fd_ = -1;
};
/// Descriptors that came with SCM_RIGHTS in `message` or otherwise: shows the TCP sockets.
void show_received(const msghdr& message);
/// Fork child: closes the parent's control descriptors, attaches, and shows what is offloaded.
void adopt_after_fork(Attachment& parents);

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_INHERIT_H_
