// The words of KernelReason, as docs/formats/control-socket.md lists them: `flextoe status` and
// libtoe's lines on stderr show the same ones.
#ifndef TOE_SHM_KERNEL_REASON_H_
#define TOE_SHM_KERNEL_REASON_H_

#include <array>
#include <iterator>
#include <string_view>

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

/// What a reason's word means, for `flextoe status`; "" for a word of another version.
constexpr const char* kernel_reason_meaning(std::string_view word) {
  struct Meaning {
    std::string_view word;
    const char* text;
  };
  constexpr Meaning meanings[] = {
      {"no-engine", "no engine answered"},
      {"version", "engine and libtoe.so are of different versions"},
      {"not-listening", "the socket does not listen"},
      {"not-tcp", "no plain TCP socket (MPTCP is none)"},
      {"other-namespace", "the socket belongs to another network namespace"},
      {"not-our-address", "bound to an address that the engine's interface does not have"},
      {"other-device", "the route leaves through another interface"},
      {"own-address", "the peer is this machine"},
      {"unreachable", "no route, or the next hop does not answer"},
      {"option", "a socket option is set that only the kernel has"},
      {"port-taken", "another program listens on that address and port through the engine"},
      {"limit", "a limit of the engine or of the user is reached"},
      {"netfilter", "packet filter chains exist that would not see the traffic"},
      {"congestion-control", "the program chose an algorithm that only the kernel has"},
      {"io-uring", "the program uses io_uring"},
      {"bound", "the program bound a local port before it connected"},
      {"other-user", "the socket's memory belongs to another user"},
      {"steering", "the port could not be steered to the engine; its log says why"},
      {"internal", "the engine failed; its log says how"}};
  static_assert(std::size(meanings) + 1 == static_cast<std::size_t>(KernelReason::kCount));
  for (const Meaning& meaning : meanings) {
    if (meaning.word == word) return meaning.text;
  }
  return "";
}

}  // namespace toe::shm

#endif  // TOE_SHM_KERNEL_REASON_H_
