// SIGURG for offloaded connections (F_SETOWN). The engine rings a doorbell when urgent data is
// announced; the kernel sends the signal for that doorbell (O_ASYNC, F_SETSIG) to the owner, so
// that no thread of libtoe has to run.
//
// A bell rings once until it is armed again: in the handler of SIGURG, and when the program asks
// for urgent data.
#ifndef TOE_LIBTOE_URGENT_SIGNAL_H_
#define TOE_LIBTOE_URGENT_SIGNAL_H_

#include "libtoe/socket.h"

namespace toe::libtoe {

/// The owner of `fd` (F_GETOWN), a connection, has been set or has become one of `socket`'s.
void follow_owner(Socket& socket, int fd);
/// Any thread; also in a signal handler.
void arm_urgent_bells();
/// In a forked child: the bells are the parent's.
void forget_urgent_bells();

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_URGENT_SIGNAL_H_
