// What RFC 3168 and RFC 8257 ask of every frame on the simulated wire: who may be ECT, where CWR
// may stand, and that a mark is echoed by the first acknowledgement that takes the marked bytes in.
//
// Sees frames as WireCheck does: when they leave, and when the wire lets them through.
#ifndef TOE_TESTS_SIM_ECN_CHECK_H_
#define TOE_TESTS_SIM_ECN_CHECK_H_

#include <cstdint>
#include <map>
#include <string>

#include "sim/tuple.h"
#include "wire/segment.h"

namespace toe::sim {

class EcnCheck {
 public:
  /// `exact`: both ends use DCTCP.
  explicit EcnCheck(bool exact) : exact_(exact) {}
  /// A frame of side `from` (0 = the client's) leaves. What is wrong with it, "" = nothing.
  std::string sent(int from, const wire::TcpSegment& s);
  /// The wire lets the frame through, whole; s.ecn as the wire left it.
  void passed(int from, const wire::TcpSegment& s);

 private:
  /// One direction of a connection; offsets count from its SYN.
  struct Stream {
    std::uint32_t isn = 0;
    std::uint32_t sent_end = 0;    ///< end of the highest byte sent
    std::uint32_t passed_end = 0;  ///< end of the highest byte that came through
    bool echoing = false;          ///< the last segment carried ECE
    bool owed = false;             ///< [mark_begin, mark_end) was marked; nobody has said so yet
    std::uint32_t mark_begin = 0;
    std::uint32_t mark_end = 0;
  };
  struct Connection {
    bool asked = false;
    bool granted = false;
    Stream stream[2];  ///< by sending side
  };

  Connection& connection(int from, const wire::TcpSegment& s) {
    return connections_[tuple_of(from, s)];
  }
  std::string handshake(int from, const wire::TcpSegment& s);
  std::string capability(const Connection& c, bool fresh, const wire::TcpSegment& s) const;

  bool exact_;
  std::map<Tuple, Connection> connections_;
};

}  // namespace toe::sim

#endif  // TOE_TESTS_SIM_ECN_CHECK_H_
