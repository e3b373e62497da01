// The words of KernelReason, as docs/formats/control-socket.md lists them: `flextoe status` and
// libtoe's lines on stderr show the same ones.
#ifndef TOE_SHM_KERNEL_REASON_H_
#define TOE_SHM_KERNEL_REASON_H_

#include <array>

#include "shm/control_format.h"

namespace toe::shm {

/// "other-device" and so on; "unknown" for a number that another version may have sent.
constexpr const char* kernel_reason_word(KernelReason reason) {
  constexpr std::array words = {"none",
                                "no-engine",
                                "version",
                                "not-listening",
                                "not-tcp",
                                "other-namespace",
                                "not-our-address",
                                "other-device",
                                "own-address",
                                "unreachable",
                                "option",
                                "port-taken",
                                "limit",
                                "netfilter",
                                "congestion-control",
                                "io-uring",
                                "bound",
                                "other-user",
                                "steering",
                                "internal"};
  static_assert(words.size() == static_cast<std::size_t>(KernelReason::kCount));
  const auto index = static_cast<std::size_t>(reason);
  return index < words.size() ? words[index] : "unknown";
}

}  // namespace toe::shm

#endif  // TOE_SHM_KERNEL_REASON_H_
