#include "netlab/fast_wire.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <net/if.h>

#include <cerrno>
#include <cmath>
#include <cstring>

// The compiled program, put into this library by the build.
namespace toe::netlab_wire {
extern const unsigned char kFastWireObject[];
extern const unsigned kFastWireObjectSize;
}  // namespace toe::netlab_wire

namespace toe::netlab {
namespace {

using netlab_wire::kFastWireObject;
using netlab_wire::kFastWireObjectSize;

Error bpf_error(const std::string& what, int code) {
  return {code, what + ": " + std::strerror(code)};
}

std::uint64_t part(double chance) {
  return static_cast<std::uint64_t>(std::ceil(chance * static_cast<double>(NETLAB_CERTAIN)));
}

}  // namespace

std::string beyond_fast(const Impairments& i) {
  Impairments able;
  able.loss = i.loss;
  able.every = i.every;
  able.mark = i.mark;
  if (i.select == Select::kTcp) able.select = i.select;
  if (able.text() == i.text()) return "";
  return "the fast wire knows loss, every, mark and select=tcp only";
}

void FastWire::ObjectCloser::operator()(bpf_object* object) const { bpf_object__close(object); }

Result<FastWire> FastWire::attach(const std::string& server_device,
                                  const std::string& client_device,
                                  const std::array<Direction, kNetlabDirections>& directions) {
  libbpf_set_print(nullptr);
  FastWire wire;
  wire.ifindex_[kNetlabToServer] = static_cast<int>(::if_nametoindex(server_device.c_str()));
  wire.ifindex_[kNetlabToClient] = static_cast<int>(::if_nametoindex(client_device.c_str()));
  for (const int index : wire.ifindex_) {
    if (index == 0) return bpf_error(server_device + " or " + client_device, ENODEV);
  }
  Status done = wire.load(directions);
  // What leads to the server comes in at the client's device.
  if (done.ok()) done = wire.attach_program("to_server", wire.ifindex_[kNetlabToClient]);
  if (done.ok()) done = wire.attach_program("to_client", wire.ifindex_[kNetlabToServer]);
  if (!done.ok()) return done.error();
  return wire;
}

Status FastWire::load(const std::array<Direction, kNetlabDirections>& directions) {
  object_.reset(bpf_object__open_mem(kFastWireObject, kFastWireObjectSize, nullptr));
  if (!object_) return bpf_error("the wire's eBPF program", errno);
  const int failed = bpf_object__load(object_.get());
  if (failed != 0) return bpf_error("the kernel did not load the wire's eBPF program", -failed);
  map_fd_ = bpf_object__find_map_fd_by_name(object_.get(), "directions");
  for (std::uint32_t to = 0; to < kNetlabDirections; ++to) {
    const Impairments& impairments = directions[to].impairments;
    NetlabFast entry{};
    entry.seed = directions[to].seed;
    entry.loss = part(impairments.loss);
    entry.every = impairments.every;
    entry.mark = part(impairments.mark);
    entry.out_ifindex = static_cast<__u32>(ifindex_[to]);
    entry.tcp_only = impairments.select == Select::kTcp;
    if (bpf_map_update_elem(map_fd_, &to, &entry, BPF_ANY) != 0) {
      return bpf_error("the wire's map", errno);
    }
  }
  return Done{};
}

Status FastWire::attach_program(const char* program, int ifindex) {
  LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_INGRESS);
  const int created = bpf_tc_hook_create(&hook);
  if (created != 0 && created != -EEXIST) return bpf_error("the tc hook", -created);
  const bpf_program* found = bpf_object__find_program_by_name(object_.get(), program);
  LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = bpf_program__fd(found));
  const int attached = bpf_tc_attach(&hook, &options);
  if (attached != 0) return bpf_error("attaching to tc ingress", -attached);
  return Done{};
}

FastWire::~FastWire() {
  if (!object_) return;
  for (const int index : ifindex_) {
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = index,
                .attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS));
    bpf_tc_hook_destroy(&hook);
  }
}

Tally FastWire::tally(std::uint32_t direction) const {
  NetlabFast entry{};
  Tally tally;
  if (bpf_map_lookup_elem(map_fd_, &direction, &entry) != 0) return tally;
  tally.frames = entry.frames;
  tally.bytes = entry.bytes;
  tally.selected = entry.selected;
  tally.dropped[static_cast<std::size_t>(Drop::kLoss)] = entry.lost;
  tally.dropped[static_cast<std::size_t>(Drop::kEvery)] = entry.lost_every;
  tally.marked = entry.marked;
  return tally;
}

}  // namespace toe::netlab
