// Counters of the data path: written by its worker, read by any thread (a moment's truth).
#ifndef TOE_DATAPATH_COUNTERS_H_
#define TOE_DATAPATH_COUNTERS_H_

#include <array>
#include <atomic>
#include <cstdint>

#include "wire/parse.h"

namespace toe::datapath {

/// One writer, so an increment needs no read-modify-write.
class Counter {
 public:
  void add(std::uint64_t n = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  std::uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

// X(name): meaning.
#define TOE_DATAPATH_COUNTERS(X)                                            \
  X(frames_in)         /* frames taken from the port */                     \
  X(frames_out)        /* segments built */                                 \
  X(segments_in)       /* segments of established flows */                  \
  X(to_control)        /* frames handed to control */                       \
  X(partial_checksums) /* accepted with the pseudo-header sum only */       \
  X(bytes_in)          /* payload bytes received in order */                \
  X(bytes_out)         /* payload bytes sent for the first time */          \
  X(retransmitted)     /* segments sent again */                            \
  X(out_of_order)      /* segments stored beyond a gap */                   \
  X(ranges_forgotten)  /* bytes behind a gap given up for another */        \
  X(fast_retransmits)  /* times losses were found before a timeout */       \
  X(sack_recoveries)   /* fast recoveries with SACK entered */              \
  X(tail_probes)       /* tail loss probes sent */                          \
  X(probe_repairs)     /* of these, so many repaired a loss */              \
  X(reorder_waits)     /* losses found by RACK's reordering timer */        \
  X(reorderings)       /* flows in which reordering was seen */             \
  X(undone_by_time)    /* reductions undone by an echoed timestamp */       \
  X(undone_by_dsack)   /* reductions undone by reported duplicates */       \
  X(dsacks_in)         /* duplicates reported by peers */                   \
  X(bad_sacks)         /* SACK blocks that cannot be true */                \
  X(no_board)          /* times no scoreboard was to be had */              \
  X(duplicate_acks)    /* duplicate ACKs counted */                         \
  X(pure_acks_out)     /* ACKs without payload sent */                      \
  X(ce_in)             /* data segments that came marked (ECN) */           \
  X(ece_in)            /* acknowledgements that told of marks */            \
  X(mark_reductions)   /* windows in which marks slowed a flow down */      \
  X(cwr_in)            /* reductions that peers told of */                  \
  X(split_acks)        /* ACKs that tell marked bytes apart (DCTCP) */      \
  X(dsacks_out)        /* duplicates reported to peers */                   \
  X(delayed_acks)      /* ACKs sent by the delayed-ACK queue */             \
  X(urgent_in)         /* urgent pointers taken from peers */               \
  X(zero_windows)      /* times a peer closed its window on waiting data */ \
  X(window_probes)     /* persist probes sent */                            \
  X(keepalive_probes)  /* keep-alive probes sent */                         \
  X(challenge_acks)    /* ACKs for unacceptable segments */                 \
  X(ring_switches_rx)  /* receive rings switched */                         \
  X(ring_switches_tx)  /* send rings switched */                            \
  X(hints_in)          /* hints taken from applications */                  \
  X(hints_out)         /* hints given to applications */                    \
  X(doorbells)         /* sleeping waiters rung */                          \
  X(misbehaved)        /* lies found in shared memory */

// X(name): a segment, frame or hint that was dropped, by reason.
#define TOE_DATAPATH_DROPS(X)                                          \
  X(no_frame)       /* frame pool exhausted */                         \
  X(mute)           /* to be sent, but address or route is gone */     \
  X(control_behind) /* control does not take its events */             \
  X(control_full)   /* control's frame ring full */                    \
  X(syn_ring_full)  /* control's SYN ring full */                      \
  X(paws)           /* timestamp too old (RFC 7323 section 5) */       \
  X(out_of_window)  /* outside the receive window */                   \
  X(bad_ack)        /* acknowledges what was never sent, or too old */ \
  X(no_ack_flag)    /* no ACK bit in a synchronized state */           \
  X(bad_rst)        /* RST in the window but not at its edge */        \
  X(bad_syn)        /* SYN in a synchronized state */                  \
  X(no_range)       /* one out-of-order range too many */              \
  X(closed_flow)    /* flow has ended, its removal is under way */     \
  X(stale_hint)     /* hint for a line without flow */

struct Counters {
#define TOE_DECLARE(name) Counter name;
  TOE_DATAPATH_COUNTERS(TOE_DECLARE)
  struct Drops {
    TOE_DATAPATH_DROPS(TOE_DECLARE)
  } drops;
#undef TOE_DECLARE
  std::array<Counter, wire::kParseVerdicts> parse;  ///< by wire::ParseVerdict
};

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_COUNTERS_H_
