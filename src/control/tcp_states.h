// The kernel's numbers of TCP states, as TCP_INFO and ss show them.
#ifndef TOE_CONTROL_TCP_STATES_H_
#define TOE_CONTROL_TCP_STATES_H_

#include <cstdint>

namespace toe::control {

enum KernelTcpState : std::uint8_t {
  kTcpEstablished = 1,
  kTcpSynSent,
  kTcpSynReceived,
  kTcpFinWait1,
  kTcpFinWait2,
  kTcpTimeWait,
  kTcpClose,
  kTcpCloseWait,
  kTcpLastAck,
  kTcpListen,
  kTcpClosing,
};

}  // namespace toe::control

#endif  // TOE_CONTROL_TCP_STATES_H_
