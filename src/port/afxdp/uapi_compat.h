// Kernel constants newer than the headers of the oldest supported distribution (Linux 6.1).
// Each is used only after the running kernel has accepted it.
#ifndef TOE_PORT_AFXDP_UAPI_COMPAT_H_
#define TOE_PORT_AFXDP_UAPI_COMPAT_H_

#include <linux/if_xdp.h>
#include <sys/socket.h>

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif
#ifndef XDP_USE_SG  // Linux 6.6: frames in several chunks
#define XDP_USE_SG (1 << 4)
#endif
#ifndef XDP_PKT_CONTD  // Linux 6.6: the frame goes on in the next descriptor
#define XDP_PKT_CONTD (1 << 0)
#endif
#ifndef XDP_MAX_TX_SKB_BUDGET  // Linux 6.17: frames sent by one system call in copy mode
#define XDP_MAX_TX_SKB_BUDGET 9
#endif
#ifndef BPF_F_XDP_HAS_FRAGS  // Linux 5.18
#define BPF_F_XDP_HAS_FRAGS (1U << 5)
#endif

#endif  // TOE_PORT_AFXDP_UAPI_COMPAT_H_
