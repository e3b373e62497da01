#include "port/afxdp/steering.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace toe::port {

// The compiled program, put into this library by the build.
extern const unsigned char kSteeringObject[];
extern const unsigned kSteeringObjectSize;

namespace {

// The libbpf text that explains a failed load best: its last warning.
thread_local std::string last_warning;

int keep_warning(enum libbpf_print_level level, const char* format, va_list args) {
  if (level != LIBBPF_WARN) return 0;
  char text[256];
  std::vsnprintf(text, sizeof(text), format, args);
  last_warning = text;
  while (!last_warning.empty() && last_warning.back() == '\n') last_warning.pop_back();
  return 0;
}

Error load_error(int code) {
  if (code == EPERM) {
    return {code,
            "loading the steering program was refused: the engine needs CAP_BPF, CAP_NET_ADMIN and "
            "CAP_PERFMON (run it as root)"};
  }
  return {code, "the kernel did not load the steering program: " + std::string(strerror(code)) +
                    (last_warning.empty() ? "" : " (" + last_warning + ")")};
}

SteerTuple key_of(const FourTuple& tuple) {
  SteerTuple key;
  std::memset(&key, 0, sizeof(key));
  std::memcpy(key.local, tuple.local.bytes.data(), sizeof(key.local));
  std::memcpy(key.remote, tuple.remote.bytes.data(), sizeof(key.remote));
  key.local_port = __builtin_bswap16(tuple.local_port);
  key.remote_port = __builtin_bswap16(tuple.remote_port);
  return key;
}
static_assert(sizeof(SteerTuple) == 36, "a map key has no padding");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);

void set_bit(__u64& word, std::uint64_t bit) {
  std::atomic_ref(word).fetch_or(bit, std::memory_order_seq_cst);
}
void clear_bit(__u64& word, std::uint64_t bit) {
  std::atomic_ref(word).fetch_and(~bit, std::memory_order_seq_cst);
}

}  // namespace

void Steering::ObjectCloser::operator()(bpf_object* object) const { bpf_object__close(object); }

Steering::Mapping::~Mapping() {
  if (memory_ != nullptr) ::munmap(memory_, bytes_);
}
Steering::Mapping::Mapping(Mapping&& other) noexcept
    : memory_(std::exchange(other.memory_, nullptr)), bytes_(other.bytes_) {}
Steering::Mapping& Steering::Mapping::operator=(Mapping&& other) noexcept {
  std::swap(memory_, other.memory_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Result<Steering::Mapping> Steering::Mapping::create(int map_fd, std::size_t bytes) {
  constexpr std::size_t kPage = 4096;
  Mapping mapping;
  mapping.bytes_ = (bytes + kPage - 1) / kPage * kPage;
  void* memory = ::mmap(nullptr, mapping.bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);
  if (memory == MAP_FAILED) {
    return Error{errno, "a map of the steering program could not be mapped: " +
                            std::string(strerror(errno))};
  }
  mapping.memory_ = memory;
  return mapping;
}

Steering::Steering() = default;
Steering::~Steering() = default;
Steering::Steering(Steering&&) noexcept = default;
Steering& Steering::operator=(Steering&&) noexcept = default;

Result<Steering> Steering::load(const Device& device) {
  libbpf_set_print(keep_warning);
  last_warning.clear();
  Steering steering;
  steering.device_ = device;
  steering.object_.reset(bpf_object__open_mem(kSteeringObject, kSteeringObjectSize, nullptr));
  if (!steering.object_) return load_error(errno);
  const int failed = bpf_object__load(steering.object_.get());
  if (failed != 0) return load_error(-failed);
  Status found = steering.find_maps();
  if (!found.ok()) return found.error();
  steering.set_mac(device.mac);
  return steering;
}

Status Steering::find_maps() {
  bpf_object* object = object_.get();
  const auto fd = [object](const char* name) {
    return bpf_object__find_map_fd_by_name(object, name);
  };
  bpf_program* program = bpf_object__find_program_by_name(object, "steer");
  program_fd_ = program != nullptr ? bpf_program__fd(program) : -1;
  sockets_fd_ = fd("sockets");
  local_v4_fd_ = fd("local_v4");
  local_v6_fd_ = fd("local_v6");
  exceptions_fd_ = fd("exceptions");
  TOE_CHECK(program_fd_ >= 0 && sockets_fd_ >= 0 && local_v4_fd_ >= 0 && local_v6_fd_ >= 0 &&
            exceptions_fd_ >= 0);

  const struct {
    const char* name;
    Mapping& mapping;
    std::size_t bytes;
  } shared[] = {
      {"config", config_, sizeof(SteerConfig)},
      {"ports", ports_, sizeof(SteerPorts) * kSteerAddresses * kSteerPortWords},
      {"vlans", vlans_, sizeof(__u64) * kSteerVlanWords},
      {"counters", counters_, sizeof(__u64) * kSteerCounters},
  };
  for (const auto& map : shared) {
    auto mapping = Mapping::create(fd(map.name), map.bytes);
    if (!mapping.ok()) return mapping.error();
    map.mapping = std::move(mapping.value());
  }
  return Done{};
}

Error Steering::attach_error(int code) const {
  const std::string& dev = device_.name;
  switch (code) {
    case EBUSY:
    case EEXIST:
      return {code, dev + " already has an XDP program (another engine, or `ip link show " + dev +
                        "` names it); it is left alone"};
    case EPERM:
      return {code, "attaching to " + dev + " was refused: the engine needs CAP_NET_ADMIN"};
    case ERANGE:
      return {code, "the MTU of " + dev + " (" + std::to_string(device_.mtu) +
                        ") is too large for XDP; lower it with `ip link set " + dev + " mtu 1500`"};
    case ENODEV:
      return {code, "there is no interface " + dev};
    case ENOSPC:  // what veth answers
      return {code, "the peer of " + dev + " has more send queues than " + dev +
                        " has receive queues; set the peer with `ethtool -L PEER rx 1 tx 1`"};
    default:
      return {code, "the steering program could not be attached to " + dev + ": " + strerror(code)};
  }
}

Status Steering::attach() {
  TOE_CHECK(!attached());
  int code = 0;
  for (const unsigned mode : {XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE}) {
    LIBBPF_OPTS(bpf_link_create_opts, options, .flags = mode);
    const int fd = bpf_link_create(program_fd_, device_.ifindex, BPF_XDP, &options);
    if (fd >= 0) {
      link_.reset(fd);
      generic_ = mode == XDP_FLAGS_SKB_MODE;
      return Done{};
    }
    const int failed = -fd;
    // The driver's answer says more than the generic hook's, unless the driver knows no XDP.
    if (code == 0 || code == EOPNOTSUPP) code = failed;
    if (failed != EOPNOTSUPP && failed != EINVAL) break;
  }
  char name[IF_NAMESIZE];
  const bool gone = ::if_indextoname(static_cast<unsigned>(device_.ifindex), name) == nullptr;
  return attach_error(gone ? ENODEV : code);  // the kernel says EINVAL
}

void Steering::detach() {
  if (!link_.valid()) return;
  bpf_link_detach(link_.get());  // at once; closing alone may leave a moment
  link_.reset();
}

Status Steering::set_socket(std::uint32_t queue, int socket_fd) {
  if (bpf_map_update_elem(sockets_fd_, &queue, &socket_fd, BPF_ANY) == 0) return Done{};
  return Error{errno, "receive queue " + std::to_string(queue) + " of " + device_.name +
                          " could not be connected: " + strerror(errno)};
}

void Steering::clear_socket(std::uint32_t queue) { bpf_map_delete_elem(sockets_fd_, &queue); }

void Steering::set_mac(const MacAddr& mac) {
  device_.mac = mac;
  std::memcpy(config_.as<SteerConfig>()->mac, mac.bytes.data(), mac.bytes.size());
}

void Steering::allow_vlan(std::uint16_t id) {
  TOE_CHECK(id < kSteerVlanWords * 64);
  set_bit(vlans_.as<__u64>()[id / 64], 1ull << (id % 64));
}

std::optional<std::uint32_t> Steering::address_index(const IpAddr& address) const {
  const auto at = std::find_if(places_.begin(), places_.end(),
                               [&](const Place& place) { return place.address == address; });
  if (at == places_.end()) return std::nullopt;
  return static_cast<std::uint32_t>(at - places_.begin());
}

// One never used, or that of an address that has gone.
std::optional<std::uint32_t> Steering::free_place() {
  const auto unused = [](const Place& place) { return !place.address; };
  auto at = std::find_if(places_.begin(), places_.end(), unused);
  if (at == places_.end()) {
    at = std::find_if(places_.begin(), places_.end(), [](const Place& p) { return !p.present; });
  }
  if (at == places_.end()) return std::nullopt;
  const auto index = static_cast<std::uint32_t>(at - places_.begin());
  if (at->address) forget_address(*at->address);
  std::memset(&word(index, 0), 0, sizeof(SteerPorts) * kSteerPortWords);
  at->address.reset();
  return index;
}

Result<std::uint32_t> Steering::add_local_address(const IpAddr& address) {
  auto index = address_index(address);
  if (index && places_[*index].present) return *index;
  if (!index) index = free_place();
  if (!index) {
    return Error{ENOSPC, device_.name + " has more than " + std::to_string(kMaxAddresses) +
                             " addresses; the others stay with the kernel"};
  }
  if (!put_address(address, *index)) {
    return Error{errno, std::string("no local address added: ") + strerror(errno)};
  }
  places_[*index] = {address, true};
  return *index;
}

// It may be the device's again a moment before the engine learns of it: what the connections on it
// get until then must not reach the kernel, which does not know them.
void Steering::remove_local_address(const IpAddr& address) {
  const auto index = address_index(address);
  if (!index || !places_[*index].present) return;
  if (!put_address(address, *index | kSteerAway)) forget_address(address);
  places_[*index].present = false;
}

bool Steering::put_address(const IpAddr& address, std::uint32_t value) const {
  return 0 == (address.is_v4()
                   ? bpf_map_update_elem(local_v4_fd_, address.v4_bytes(), &value, BPF_ANY)
                   : bpf_map_update_elem(local_v6_fd_, address.bytes.data(), &value, BPF_ANY));
}

void Steering::forget_address(const IpAddr& address) const {
  if (address.is_v4()) {
    bpf_map_delete_elem(local_v4_fd_, address.v4_bytes());
  } else {
    bpf_map_delete_elem(local_v6_fd_, address.bytes.data());
  }
}

SteerPorts& Steering::word(std::uint32_t address, std::uint16_t port) const {
  TOE_CHECK(address < kMaxAddresses);
  return ports_.as<SteerPorts>()[address * kSteerPortWords + port / 64];
}

void Steering::mark(std::uint32_t address, std::uint16_t port, unsigned bits) {
  SteerPorts& ports = word(address, port);
  const std::uint64_t bit = 1ull << (port % 64);
  // Exceptions first: a port must not be owned for a moment without them.
  if ((bits & kExcept) != 0) set_bit(ports.except, bit);
  if ((bits & kChanging) != 0) set_bit(ports.changing, bit);
  if ((bits & kSynOnly) != 0) set_bit(ports.syn_only, bit);
  if ((bits & kOwned) != 0) set_bit(ports.owned, bit);
}

void Steering::unmark(std::uint32_t address, std::uint16_t port, unsigned bits) {
  SteerPorts& ports = word(address, port);
  const std::uint64_t bit = 1ull << (port % 64);
  if ((bits & kOwned) != 0) clear_bit(ports.owned, bit);
  if ((bits & kSynOnly) != 0) clear_bit(ports.syn_only, bit);
  if ((bits & kExcept) != 0) clear_bit(ports.except, bit);
  if ((bits & kChanging) != 0) clear_bit(ports.changing, bit);
}

unsigned Steering::state(std::uint32_t address, std::uint16_t port) const {
  const SteerPorts& ports = word(address, port);
  const std::uint64_t bit = 1ull << (port % 64);
  return ((ports.owned & bit) != 0 ? kOwned : 0u) | ((ports.syn_only & bit) != 0 ? kSynOnly : 0u) |
         ((ports.except & bit) != 0 ? kExcept : 0u) |
         ((ports.changing & bit) != 0 ? kChanging : 0u);
}

Status Steering::add_exception(const FourTuple& tuple, Keeper keeper) {
  const SteerTuple key = key_of(tuple);
  const auto value = static_cast<std::uint32_t>(keeper);
  if (bpf_map_update_elem(exceptions_fd_, &key, &value, BPF_NOEXIST) == 0) {
    exceptions_++;
    return Done{};
  }
  if (errno == EEXIST && bpf_map_update_elem(exceptions_fd_, &key, &value, BPF_EXIST) == 0) {
    return Done{};
  }
  const int code = errno == E2BIG ? ENOSPC : errno;
  return Error{code, code == ENOSPC ? "more than " + std::to_string(kMaxExceptions) +
                                          " connections change between kernel and engine"
                                    : std::string("no exception added: ") + strerror(code)};
}

void Steering::remove_exception(const FourTuple& tuple) {
  const SteerTuple key = key_of(tuple);
  if (bpf_map_delete_elem(exceptions_fd_, &key) == 0) exceptions_--;
}

std::uint32_t Steering::clear_exceptions(const IpAddr& address, std::optional<std::uint16_t> port,
                                         std::optional<Keeper> keeper) {
  const auto meant = [&](const SteerTuple& key) {
    if (std::memcmp(key.local, address.bytes.data(), sizeof(key.local)) != 0) return false;
    if (port && key.local_port != __builtin_bswap16(*port)) return false;
    std::uint32_t value = 0;
    return !keeper || (bpf_map_lookup_elem(exceptions_fd_, &key, &value) == 0 &&
                       value == static_cast<std::uint32_t>(*keeper));
  };
  std::vector<SteerTuple> found;
  SteerTuple key;
  const void* previous = nullptr;
  for (std::uint32_t i = 0; i < kMaxExceptions; ++i) {
    if (bpf_map_get_next_key(exceptions_fd_, previous, &key) != 0) break;
    previous = &key;
    if (meant(key)) found.push_back(key);
  }
  std::uint32_t removed = 0;
  for (const SteerTuple& entry : found) {
    if (bpf_map_delete_elem(exceptions_fd_, &entry) == 0) removed++;
  }
  exceptions_ -= removed;
  return removed;
}

SteeringCounters Steering::counters() const {
  const auto read = [this](SteerCounter which) {
    return std::atomic_ref(counters_.as<__u64>()[which]).load(std::memory_order_relaxed);
  };
  return {.exceptions_passed = read(kSteerExceptionPassed),
          .exceptions_redirected = read(kSteerExceptionRedirected),
          .fragments_dropped = read(kSteerFragmentDropped),
          .fragments_passed = read(kSteerFragmentPassed),
          .headers_dropped = read(kSteerHeadersDropped),
          .vlan_passed = read(kSteerVlanPassed),
          .changing_dropped = read(kSteerChangingDropped)};
}

}  // namespace toe::port
