// The engine's handle on the steering program: which TCP segments come to us.
//
// The program lives as long as this object's link: when the process ends, however it ends, the
// kernel has the device back. See docs/formats/steering.md.
#ifndef TOE_PORT_AFXDP_STEERING_H_
#define TOE_PORT_AFXDP_STEERING_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/addr.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "port/afxdp/steering_maps.h"
#include "port/port.h"

struct bpf_object;

namespace toe::port {

/// States of a (local address, port); they combine.
enum PortBits : unsigned {
  kOwned = 1,     ///< every segment is the engine's
  kSynOnly = 2,   ///< SYNs without ACK are the engine's, all else is the kernel's
  kExcept = 4,    ///< connections in the exception table go where their entry says
  kChanging = 8,  ///< what is the engine's by kOwned or kSynOnly is nobody's: senders repeat it
};

enum class Keeper : std::uint32_t { kKernel = kSteerKernelKeeps, kEngine = kSteerEngineKeeps };

/// A connection as this host sees it; ports in host byte order.
struct FourTuple {
  IpAddr local;
  IpAddr remote;
  std::uint16_t local_port = 0;
  std::uint16_t remote_port = 0;
  auto operator<=>(const FourTuple&) const = default;
};

struct SteeringCounters {
  std::uint64_t exceptions_passed = 0;
  std::uint64_t exceptions_redirected = 0;
  std::uint64_t fragments_dropped = 0;
  std::uint64_t fragments_passed = 0;
  std::uint64_t headers_dropped = 0;
  std::uint64_t vlan_passed = 0;
  std::uint64_t changing_dropped = 0;
};

/// Loads, attaches and steers. Move-only; detaches when destroyed.
///
/// Thread: one (control); the marking calls are plain stores into memory shared with the program
/// and take effect for the next frame.
class Steering {
 public:
  static constexpr std::uint32_t kMaxAddresses = kSteerAddresses;
  static constexpr std::uint32_t kMaxExceptions = kSteerExceptions;

  /// Loads the program and its maps for `device`; nothing is attached yet.
  static Result<Steering> load(const Device& device);

  ~Steering();
  Steering(Steering&&) noexcept;
  Steering& operator=(Steering&&) noexcept;
  Steering(const Steering&) = delete;
  Steering& operator=(const Steering&) = delete;

  /// Puts the program in front of the device: in the driver, or in the kernel's generic hook where
  /// the driver has none. Never replaces a program of somebody else.
  Status attach();
  /// Gives the device back to the kernel, at once.
  void detach();
  bool attached() const { return link_.valid(); }
  const Device& device() const { return device_; }
  /// True if the generic hook had to be used. REQUIRES: attached().
  bool generic() const { return generic_; }

  /// Connects a receive queue with its AF_XDP socket. A queue without socket passes all.
  Status set_socket(std::uint32_t queue, int socket_fd);
  void clear_socket(std::uint32_t queue);

  void set_mac(const MacAddr& mac);
  /// Frames with this VLAN id (1..4094) count as the device's.
  void allow_vlan(std::uint16_t id);

  /// Returns the index that stands for `address` from now on; the old one, with the state of its
  /// ports, if it is known.
  Result<std::uint32_t> add_local_address(const IpAddr& address);
  /// Segments to the address are nobody's, unless the kernel forwards them. It keeps its index and
  /// the state of its ports until another address needs the place. Unknown addresses are ignored.
  void remove_local_address(const IpAddr& address);
  std::optional<std::uint32_t> address_index(const IpAddr& address) const;

  /// Sets or clears PortBits of a port; other bits stay. REQUIRES: address < kMaxAddresses.
  void mark(std::uint32_t address, std::uint16_t port, unsigned bits);
  void unmark(std::uint32_t address, std::uint16_t port, unsigned bits);
  unsigned state(std::uint32_t address, std::uint16_t port) const;

  /// Exceptions count only for ports with kExcept. Adding an existing one changes its keeper.
  Status add_exception(const FourTuple& tuple, Keeper keeper);
  void remove_exception(const FourTuple& tuple);
  /// Removes the entries of one local (address, port) that `keeper` has; returns how many. Without
  /// port or keeper: of all.
  std::uint32_t clear_exceptions(const IpAddr& address, std::optional<std::uint16_t> port,
                                 std::optional<Keeper> keeper = std::nullopt);
  std::uint32_t exceptions() const { return exceptions_; }

  SteeringCounters counters() const;
  /// For tests of the program by BPF_PROG_TEST_RUN. Stays this object's.
  int program_fd() const { return program_fd_; }

 private:
  struct ObjectCloser {
    void operator()(bpf_object* object) const;
  };
  /// A map's memory, shared with the program.
  class Mapping {
   public:
    Mapping() = default;
    ~Mapping();
    Mapping(Mapping&& other) noexcept;
    Mapping& operator=(Mapping&& other) noexcept;
    static Result<Mapping> create(int map_fd, std::size_t bytes);
    template <typename T>
    T* as() const {
      return static_cast<T*>(memory_);
    }

   private:
    void* memory_ = nullptr;
    std::size_t bytes_ = 0;
  };

  Steering();
  Status find_maps();
  SteerPorts& word(std::uint32_t address, std::uint16_t port) const;
  Error attach_error(int code) const;

  Device device_;
  std::unique_ptr<bpf_object, ObjectCloser> object_;
  int program_fd_ = -1;
  int sockets_fd_ = -1;
  int local_v4_fd_ = -1;
  int local_v6_fd_ = -1;
  int exceptions_fd_ = -1;
  Mapping config_;
  Mapping ports_;
  Mapping vlans_;
  Mapping counters_;
  struct Place {
    std::optional<IpAddr> address;
    bool present = false;  ///< false: the address is gone and may come back
  };
  std::optional<std::uint32_t> free_place();
  bool put_address(const IpAddr& address, std::uint32_t value) const;
  void forget_address(const IpAddr& address) const;

  std::array<Place, kMaxAddresses> places_;
  std::uint32_t exceptions_ = 0;
  bool generic_ = false;
  UniqueFd link_;  // last: gone before everything it depends on
};

}  // namespace toe::port

#endif  // TOE_PORT_AFXDP_STEERING_H_
