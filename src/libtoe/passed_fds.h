// The file descriptors that a message passes (SCM_RIGHTS).
#ifndef TOE_LIBTOE_PASSED_FDS_H_
#define TOE_LIBTOE_PASSED_FDS_H_

#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace toe::libtoe {

/// Calls use(fd) for each. The program may have filled the message with nonsense, which the kernel
/// will refuse: nothing beyond msg_controllen is read.
template <typename Use>
void for_each_passed_fd(const msghdr& message, Use use) {
  if (message.msg_controllen < sizeof(cmsghdr)) return;
  auto* scan = const_cast<msghdr*>(&message);
  const auto* end = static_cast<const std::uint8_t*>(message.msg_control) + message.msg_controllen;
  for (cmsghdr* header = CMSG_FIRSTHDR(scan); header != nullptr;
       header = CMSG_NXTHDR(scan, header)) {
    if (header->cmsg_len < CMSG_LEN(0)) return;
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::uint8_t* data = CMSG_DATA(header);
    const std::size_t there = data < end ? static_cast<std::size_t>(end - data) : 0;
    const std::size_t count = std::min(header->cmsg_len - CMSG_LEN(0), there) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, data + i * sizeof fd, sizeof fd);
      use(fd);
    }
  }
}

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_PASSED_FDS_H_
