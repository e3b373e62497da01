// The random numbers of the wire, for the program and for the eBPF program alike (C and C++).
//
// They are counted, not drawn in a row: each follows from seed, frame number and purpose alone. So
// a frame's fate does not depend on what else is switched on, nor on the frames before it.
#ifndef TOE_NETLAB_DRAW_H_
#define TOE_NETLAB_DRAW_H_

#include <linux/types.h>

enum NetlabPurpose {
  kNetlabLoss = 1,
  kNetlabBurstState,
  kNetlabBurstLoss,
  kNetlabDuplicate,
  kNetlabDuplicateLag,
  kNetlabReorder,
  kNetlabReorderLag,
  kNetlabCorrupt,
  kNetlabCorruptBit,
  kNetlabJitter,
  kNetlabMark,
};

// Chances are compared with 53 bits, as many as a double holds.
#define NETLAB_CERTAIN (1ull << 53)

static inline __attribute__((always_inline)) __u64 netlab_draw(__u64 seed, __u64 number,
                                                               __u32 purpose) {
  __u64 z = seed + number * 0x9e3779b97f4a7c15ull + purpose * 0xd1342543de82ef95ull;
  for (int round = 0; round < 2; ++round) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    z ^= z >> 31;
  }
  return z >> 11;
}

#endif  // TOE_NETLAB_DRAW_H_
