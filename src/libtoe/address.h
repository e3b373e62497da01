// Socket addresses of both families, and the v4-mapped form of the shared memory.
#ifndef TOE_LIBTOE_ADDRESS_H_
#define TOE_LIBTOE_ADDRESS_H_

#include <sys/socket.h>

#include <cstdint>

namespace toe::libtoe {

/// Where a call wants an address to be stored.
struct AddressOut {
  sockaddr* address;
  socklen_t* length;
};

/// False for families other than AF_INET and AF_INET6, and for short addresses.
bool to_mapped(const sockaddr* address, socklen_t length, std::uint8_t (&out)[16],
               std::uint16_t& port);
/// Stores the address as a socket of `family` shows it. 0 or a negative errno.
int from_mapped(const std::uint8_t (&address)[16], std::uint16_t port, int family, AddressOut out);
/// Host order; 0 for other families.
std::uint16_t port_of(const sockaddr_storage& address);
bool is_loopback(const std::uint8_t (&address)[16]);
/// True when the kernel socket is bound to a loopback address.
bool bound_to_loopback(int fd);

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_ADDRESS_H_
