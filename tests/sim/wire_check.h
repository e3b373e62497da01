// What must hold of every frame on the simulated wire, whatever the engines think: nothing is
// acknowledged that did not arrive, nothing is sent beyond what the peer has promised to take, no
// promise and no acknowledgement is taken back, nothing is left out and nothing follows the FIN.
//
// Takes a frame as arrived when the wire lets it through, so it may know of bytes a little before
// the peer does, never after.
#ifndef TOE_TESTS_SIM_WIRE_CHECK_H_
#define TOE_TESTS_SIM_WIRE_CHECK_H_

#include <cstdint>
#include <map>
#include <string>

#include "sim/tuple.h"
#include "wire/segment.h"

namespace toe::sim {

class WireCheck {
 public:
  /// A frame of side `from` (0 = the client's) leaves. What is wrong with it, "" = nothing.
  std::string sent(int from, const wire::TcpSegment& s);
  /// The wire lets the frame through, whole.
  void passed(int from, const wire::TcpSegment& s);

 private:
  /// One direction of a connection; offsets count from its SYN.
  struct Stream {
    bool begun = false;
    std::uint32_t isn = 0;
    std::uint8_t wscale = 0;
    std::uint32_t promised = 0;                      ///< right edge that the receiver has announced
    std::uint32_t acked = 0;                         ///< what it has acknowledged
    std::uint32_t sent_end = 1;                      ///< end of what was sent, SYN and FIN included
    std::uint32_t fin_end = 0;                       ///< end of the FIN, once sent
    std::map<std::uint32_t, std::uint32_t> arrived;  ///< begin -> end, disjoint, not adjacent

    std::uint32_t offset(std::uint32_t seq) const { return seq - isn; }
    bool holds(std::uint32_t begin, std::uint32_t end) const;
    void add(std::uint32_t begin, std::uint32_t end);
  };
  struct Connection {
    Stream stream[2];    ///< by sending side
    bool again = false;  ///< an old SYN has opened it once more, for the server alone
  };

  Connection& connection(int from, const wire::TcpSegment& s) {
    return connections_[tuple_of(from, s)];
  }
  static std::string order(Stream& out, const wire::TcpSegment& s);
  static std::string acknowledgement(Stream& in, const wire::TcpSegment& s);
  static std::string window(const Stream& out, Stream& in, const wire::TcpSegment& s);

  std::map<Tuple, Connection> connections_;
};

}  // namespace toe::sim

#endif  // TOE_TESTS_SIM_WIRE_CHECK_H_
