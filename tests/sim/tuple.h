// A connection of the simulation by its two ports: one port of the client may serve several.
#ifndef TOE_TESTS_SIM_TUPLE_H_
#define TOE_TESTS_SIM_TUPLE_H_

#include <cstdint>

#include "wire/segment.h"

namespace toe::sim {

using Tuple = std::uint32_t;

constexpr Tuple tuple_of(std::uint16_t client_port, std::uint16_t server_port) {
  return Tuple{client_port} << 16 | server_port;
}
/// Of a segment that side `from` (0 = the client's) sends.
inline Tuple tuple_of(int from, const wire::TcpSegment& s) {
  return from == 0 ? tuple_of(s.src_port, s.dst_port) : tuple_of(s.dst_port, s.src_port);
}

}  // namespace toe::sim

#endif  // TOE_TESTS_SIM_TUPLE_H_
