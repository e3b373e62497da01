// Marks: what the seeds of one run have reached. A simulation that never loses a segment in the
// handshake, or never closes a window, proves nothing; so the run fails unless all were hit.
#ifndef TOE_TESTS_SIM_MARKS_H_
#define TOE_TESTS_SIM_MARKS_H_

#include <array>
#include <cstdint>

namespace toe::sim {

// clang-format off
#define TOE_SIM_MARKS(X)                                                                          \
  X(frame_lost) X(burst_lost) X(queue_overflow)                                                   \
  X(frame_duplicated) X(frame_reordered) X(frame_delayed) X(frame_corrupted) X(corruption_found)  \
      X(rto) X(fast_retransmit) X(zero_window) X(window_probe) X(delayed_ack) X(out_of_order)     \
          X(ring_switch_rx) X(ring_switch_tx) X(ring_renewed) X(keepalive_probe)                  \
              X(challenge_ack) X(syn_repeated) X(listener_late)                                   \
              X(application_stall) X(shuffled_order) X(ipv6) X(time_wait)        \
                  X(active_close) X(passive_close) X(simultaneous_close) X(half_close)            \
                      X(fin_crossed) X(reset) X(reset_with_unread) X(linger_zero) X(process_died) \
      X(spoofed) X(attacked)                                                                      \
      X(shut_both) X(server_died) X(died_in_handshake) X(died_unaccepted) X(died_with_unread)    \
          X(died_with_unsent) X(orphan_delivered) X(orphan_gave_up) X(wire_cut)                  \
              X(retries_exhausted) X(user_timeout_over) X(keepalive_over) X(connect_timed_out)   \
      X(sack_recovery) X(tail_probe) X(probe_repair) X(reordering) X(reorder_wait)               \
          X(undone_by_time) X(undone_by_dsack) X(without_sack)                                    \
      X(ecn_negotiated) X(ecn_fallback) X(ce_received) X(ece_received) X(ecn_reduction)           \
          X(cwr_received) X(dctcp_echo) X(jumbo_frame)
// clang-format on

enum class Mark : std::uint8_t {
#define TOE_ENUM(name) name,
  TOE_SIM_MARKS(TOE_ENUM)
#undef TOE_ENUM
      kCount,
};
inline constexpr const char* kMarkNames[] = {
#define TOE_NAME(name) #name,
    TOE_SIM_MARKS(TOE_NAME)
#undef TOE_NAME
};

class Marks {
 public:
  void hit(Mark mark, std::uint64_t times = 1) { counts_[static_cast<std::size_t>(mark)] += times; }
  std::uint64_t count(Mark mark) const { return counts_[static_cast<std::size_t>(mark)]; }
  void add(const Marks& other) {
    for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
  }

 private:
  std::array<std::uint64_t, static_cast<std::size_t>(Mark::kCount)> counts_{};
};

}  // namespace toe::sim

#endif  // TOE_TESTS_SIM_MARKS_H_
