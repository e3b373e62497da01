// The wire inside the kernel (bpf/netlab_fast.bpf.c): loss and marks at full speed.
#ifndef TOE_NETLAB_FAST_WIRE_H_
#define TOE_NETLAB_FAST_WIRE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "netlab/fast_maps.h"
#include "netlab/impairer.h"

struct bpf_object;

namespace toe::netlab {

/// What a direction of the wire needs to know, for both kinds of wire.
struct Direction {
  Impairments impairments;
  std::uint64_t seed = 0;
};

/// Owns the loaded programs; they stay attached until it is destroyed.
class FastWire {
 public:
  /// REQUIRES: `directions` by what they lead to: server, client.
  static Result<FastWire> attach(const std::string& server_device, const std::string& client_device,
                                 const std::array<Direction, kNetlabDirections>& directions);
  FastWire(FastWire&&) = default;
  FastWire& operator=(FastWire&&) = delete;
  ~FastWire();

  Tally tally(std::uint32_t direction) const;

 private:
  struct ObjectCloser {
    void operator()(bpf_object* object) const;
  };

  FastWire() = default;
  Status load(const std::array<Direction, kNetlabDirections>& directions);
  Status attach_program(const char* program, int ifindex);

  std::unique_ptr<bpf_object, ObjectCloser> object_;
  std::array<int, kNetlabDirections> ifindex_ = {};  ///< of the device that leads there
  int map_fd_ = -1;
};

/// Why the kernel's wire cannot do this; "" if it can.
std::string beyond_fast(const Impairments& impairments);

}  // namespace toe::netlab

#endif  // TOE_NETLAB_FAST_WIRE_H_
