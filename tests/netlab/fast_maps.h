// What the eBPF wire and its loader share (C and C++).
#ifndef TOE_NETLAB_FAST_MAPS_H_
#define TOE_NETLAB_FAST_MAPS_H_

#include <linux/types.h>

enum { kNetlabToServer, kNetlabToClient, kNetlabDirections };

// One direction: what to do, set before the program is attached, and what was done. Chances are
// parts of NETLAB_CERTAIN.
struct NetlabFast {
  __u64 seed;
  __u64 loss;
  __u64 every;
  __u64 mark;
  __u32 out_ifindex;  // where the frames go on
  __u32 tcp_only;
  __u64 frames;
  __u64 bytes;
  __u64 selected;
  __u64 lost;
  __u64 lost_every;
  __u64 marked;
};

#endif  // TOE_NETLAB_FAST_MAPS_H_
