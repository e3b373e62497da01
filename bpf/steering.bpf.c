// Steering: decides for each frame of the device whether the engine or the kernel gets it.
//
// Redirected to the AF_XDP socket of the receiving queue: TCP whose destination MAC is the
// device's and whose (destination address, port) the engine owns. Everything else passes, but for
// what the kernel would answer by a reset of an engine's connection; so does every frame while the
// queue has no socket. See docs/formats/steering.md.
//
// The headers of libbpf need the kernel's before them.
// clang-format off
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
// clang-format on

#include "port/afxdp/steering_maps.h"

struct {
  __uint(type, BPF_MAP_TYPE_XSKMAP);
  __uint(max_entries, kSteerQueues);
  __type(key, __u32);
  __type(value, __u32);
} sockets SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct SteerConfig);
} config SEC(".maps");

// Local address -> index of its block in `ports`, with kSteerAway while the device does not have
// it.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, kSteerAddresses);
  __type(key, __u32);
  __type(value, __u32);
} local_v4 SEC(".maps");

struct address {
  __u8 bytes[16];
};

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, kSteerAddresses);
  __type(key, struct address);
  __type(value, __u32);
} local_v6 SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, kSteerAddresses *kSteerPortWords);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct SteerPorts);
} ports SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, kSteerVlanWords);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, __u64);
} vlans SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, kSteerExceptions);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct SteerTuple);
  __type(value, __u32);
} exceptions SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, kSteerCounters);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, __u64);
} counters SEC(".maps");

// The part of a frame not looked at yet, and what was learnt from the part before.
struct cursor {
  void *at;
  void *end;
  __u32 fragment;  // 0 whole, 1 first fragment
  __u32 other_mac;
};

struct vlan_tag {
  __be16 tci;
  __be16 next_proto;
};

// Where a TCP header starts.
struct tcp_ports {
  __be16 source;
  __be16 dest;
};

struct extension {
  __u8 next;
  __u8 length;
};

struct fragment_header {
  __u8 next;
  __u8 reserved;
  __be16 offset;
  __be32 id;
};

struct routing_header {
  __u8 next;
  __u8 length;
  __u8 type;
  __u8 segments_left;
};

static __always_inline void count(__u32 which) {
  __u64 *counter = bpf_map_lookup_elem(&counters, &which);
  if (counter) __sync_fetch_and_add(counter, 1);
}

static __always_inline int is_vlan(__be16 proto) {
  return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD);
}

static __always_inline int vlan_allowed(__u16 id) {
  if (id == 0) return 1;
  __u32 word = id / 64;
  __u64 *bits = bpf_map_lookup_elem(&vlans, &word);
  return bits && (*bits >> (id % 64) & 1);
}

// Steps over the Ethernet header and the tags. Returns the protocol, or 0 if the frame is not
// for this device. One to another MAC may be: the device may have it since a moment.
static __always_inline __be16 walk_ethernet(struct cursor *c) {
  struct ethhdr *eth = c->at;
  if ((void *)(eth + 1) > c->end) return 0;
  __u32 zero = 0;
  struct SteerConfig *own = bpf_map_lookup_elem(&config, &zero);
  if (!own) return 0;
  if (eth->h_dest[0] & 1) return 0;
  for (int i = 0; i < ETH_ALEN; ++i) c->other_mac |= eth->h_dest[i] ^ own->mac[i];
  __be16 proto = eth->h_proto;
  c->at = eth + 1;
  for (int i = 0; i < kSteerMaxVlanTags; ++i) {
    struct vlan_tag *tag = c->at;
    if (!is_vlan(proto)) return proto;
    if ((void *)(tag + 1) > c->end) return 0;
    if (!vlan_allowed(bpf_ntohs(tag->tci) & 0xfff)) {
      count(kSteerVlanPassed);
      return 0;
    }
    proto = tag->next_proto;
    c->at = tag + 1;
  }
  if (is_vlan(proto)) count(kSteerVlanPassed);
  return proto;
}

static __always_inline int is_first_syn(const struct tcphdr *tcp) { return tcp->syn && !tcp->ack; }

enum side { SIDE_KERNEL, SIDE_ENGINE, SIDE_NOBODY };

// Whose this segment of a connection to local address `index` is.
static __always_inline enum side side_of(struct tcp_ports *tcp, int first_syn, __u32 index,
                                         struct SteerTuple *tuple) {
  __u16 port = bpf_ntohs(tcp->dest);
  __u32 word = index * kSteerPortWords + port / 64;
  struct SteerPorts *state = bpf_map_lookup_elem(&ports, &word);
  if (!state) return SIDE_KERNEL;
  __u64 bit = 1ull << (port % 64);
  int takes = (state->owned & bit) || ((state->syn_only & bit) && first_syn);
  enum side side = !takes ? SIDE_KERNEL : state->changing & bit ? SIDE_NOBODY : SIDE_ENGINE;
  if (!(state->except & bit)) return side;
  tuple->local_port = tcp->dest;
  tuple->remote_port = tcp->source;
  __u32 *keeper = bpf_map_lookup_elem(&exceptions, tuple);
  if (!keeper) return side;
  int keeps = *keeper == kSteerEngineKeeps;
  if (keeps != takes) count(keeps ? kSteerExceptionRedirected : kSteerExceptionPassed);
  return keeps ? SIDE_ENGINE : SIDE_KERNEL;
}

// Whether the kernel sends a packet to this address on to another host.
static __always_inline int is_forwarded(struct xdp_md *ctx, const struct SteerTuple *tuple) {
  struct bpf_fib_lookup to = {};
  to.ifindex = ctx->ingress_ifindex;
  if (*(__u64 *)tuple->local == 0 && *(__u32 *)(tuple->local + 8) == bpf_htonl(0xffff)) {
    to.family = kSteerInet;
    __builtin_memcpy(&to.ipv4_src, tuple->remote + 12, 4);
    __builtin_memcpy(&to.ipv4_dst, tuple->local + 12, 4);
  } else {
    to.family = kSteerInet6;
    __builtin_memcpy(to.ipv6_src, tuple->remote, 16);
    __builtin_memcpy(to.ipv6_dst, tuple->local, 16);
  }
  long found = bpf_fib_lookup(ctx, &to, sizeof(to), 0);
  return found == BPF_FIB_LKUP_RET_SUCCESS || found == BPF_FIB_LKUP_RET_NO_NEIGH;
}

// The engine's segment, but the device has not the address or the MAC that it is sent to, as far as
// the engine knows. The kernel may know better, and would answer with a reset.
static __always_inline int steer_doubtful(struct xdp_md *ctx, struct cursor *c,
                                          const struct SteerTuple *tuple) {
  if (!c->other_mac && is_forwarded(ctx, tuple)) return XDP_PASS;
  count(kSteerChangingDropped);
  return XDP_DROP;
}

static __always_inline int steer_tcp(struct xdp_md *ctx, struct cursor *c, __u32 place,
                                     struct SteerTuple *tuple) {
  struct tcphdr *tcp = c->at;
  __u32 index = place & ~kSteerAway;
  if (c->fragment) {
    // It may end behind 8 bytes (RFC 791 section 3.2); the ports decide. As it may be a SYN, it
    // counts as one: a peer whose connection is the kernel's sends it again.
    struct tcp_ports *tiny = c->at;
    if ((void *)(tiny + 1) > c->end || side_of(tiny, 1, index, tuple) == SIDE_KERNEL) {
      return XDP_PASS;
    }
    count(kSteerFragmentDropped);
    return XDP_DROP;
  }
  if ((void *)(tcp + 1) > c->end) return XDP_PASS;
  enum side side = side_of((struct tcp_ports *)tcp, is_first_syn(tcp), index, tuple);
  if (side == SIDE_KERNEL) return XDP_PASS;
  if (c->other_mac || place != index) return steer_doubtful(ctx, c, tuple);
  if (side == SIDE_NOBODY) {
    count(kSteerChangingDropped);
    return XDP_DROP;
  }
  return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS);
}

static __always_inline void put_mapped(__u8 *out, __be32 v4) {
  out[10] = 0xff;
  out[11] = 0xff;
  __builtin_memcpy(out + 12, &v4, 4);
}

static __always_inline int steer_v4(struct xdp_md *ctx, struct cursor *c) {
  struct iphdr *ip = c->at;
  if ((void *)(ip + 1) > c->end) return XDP_PASS;
  if (ip->protocol != IPPROTO_TCP || ip->version != 4 || ip->ihl < 5) return XDP_PASS;
  __u32 destination = ip->daddr;
  __u32 *index = bpf_map_lookup_elem(&local_v4, &destination);
  if (!index) return XDP_PASS;
  __u16 fragment = bpf_ntohs(ip->frag_off);
  if (fragment & 0x1fff) {
    count(kSteerFragmentPassed);
    return XDP_PASS;
  }
  c->fragment = (fragment & 0x2000) != 0;
  struct SteerTuple tuple = {};
  put_mapped(tuple.local, ip->daddr);
  put_mapped(tuple.remote, ip->saddr);
  c->at = (void *)ip + ip->ihl * 4;
  return steer_tcp(ctx, c, *index, &tuple);
}

// Farthest byte looked at; the longest legal chain of extension headers ends before it.
#define MAX_OFFSET 0x4fff

static __always_inline int is_extension(__u32 next) {
  return next == IPPROTO_HOPOPTS || next == IPPROTO_DSTOPTS || next == IPPROTO_ROUTING ||
         next == IPPROTO_AH || next == IPPROTO_FRAGMENT;
}

// One step over an extension header.
enum walk { WALK_GO_ON, WALK_STOP, WALK_LATER_FRAGMENT, WALK_FIRST_FRAGMENT };
#define WALKED(walk, next, length) ((walk) << 24 | (length) << 8 | (next))

// Looks at the extension header of type `type` at `offset` and returns WALKED(...). WALK_STOP: cut
// off, or this host is not the last hop. A function of its own (not static), so that the verifier
// checks it once and not once per path to it.
// REQUIRES: is_extension(type).
__attribute__((noinline)) __u32 step_extension(struct xdp_md *ctx, __u32 offset, __u32 type) {
  void *end = (void *)(long)ctx->data_end;
  if (offset > MAX_OFFSET) return WALKED(WALK_STOP, 0, 0);
  struct extension *ext = (void *)(long)ctx->data + offset;
  if ((void *)ext + sizeof(struct fragment_header) > end) return WALKED(WALK_STOP, 0, 0);
  if (type == IPPROTO_FRAGMENT) {
    struct fragment_header *fragment = (void *)ext;
    __u16 bits = bpf_ntohs(fragment->offset);
    if (bits & 0xfff8) return WALKED(WALK_LATER_FRAGMENT, 0, 0);
    // Without "more" either this is an atomic fragment (RFC 6946): a whole packet.
    return WALKED(bits & 1 ? WALK_FIRST_FRAGMENT : WALK_GO_ON, ext->next, 8);
  }
  if (type == IPPROTO_ROUTING) {
    struct routing_header *routing = (void *)ext;
    if (routing->segments_left != 0) return WALKED(WALK_STOP, 0, 0);
  }
  __u32 length = type == IPPROTO_AH ? (ext->length + 2) * 4 : (ext->length + 1) * 8;
  return WALKED(WALK_GO_ON, ext->next, length);
}

static __always_inline int steer_v6(struct xdp_md *ctx, struct cursor *c) {
  struct ipv6hdr *ip = c->at;
  if ((void *)(ip + 1) > c->end || ip->version != 6) return XDP_PASS;
  struct address destination;
  __builtin_memcpy(&destination, &ip->daddr, sizeof(destination));
  __u32 *index = bpf_map_lookup_elem(&local_v6, &destination);
  if (!index) return XDP_PASS;
  struct SteerTuple tuple = {};
  __builtin_memcpy(tuple.local, &ip->daddr, 16);
  __builtin_memcpy(tuple.remote, &ip->saddr, 16);
  __u32 next = ip->nexthdr;
  c->at = ip + 1;
  if (next == IPPROTO_TCP) return steer_tcp(ctx, c, *index, &tuple);

  __u32 offset = (void *)(ip + 1) - (void *)(long)ctx->data;
  for (int i = 0; i < kSteerMaxIpv6Headers; ++i) {
    if (!is_extension(next)) return XDP_PASS;
    __u32 walked = step_extension(ctx, offset, next);
    enum walk walk = walked >> 24;
    if (walk == WALK_LATER_FRAGMENT) count(kSteerFragmentPassed);
    if (walk == WALK_LATER_FRAGMENT || walk == WALK_STOP) return XDP_PASS;
    if (walk == WALK_FIRST_FRAGMENT) c->fragment = 1;
    next = walked & 0xff;
    offset += walked >> 8 & 0xffff;
    if (offset > MAX_OFFSET) return XDP_PASS;
    if (next == IPPROTO_TCP) {
      c->at = (void *)(long)ctx->data + offset;
      return steer_tcp(ctx, c, *index, &tuple);
    }
  }
  if (!is_extension(next)) return XDP_PASS;
  if (c->other_mac || *index & kSteerAway) return XDP_PASS;
  // The kernel would walk on and answer for a port that may be owned.
  count(kSteerHeadersDropped);
  return XDP_DROP;
}

SEC("xdp.frags")
int steer(struct xdp_md *ctx) {
  struct cursor c = {(void *)(long)ctx->data, (void *)(long)ctx->data_end, 0, 0};
  __be16 proto = walk_ethernet(&c);
  if (proto == bpf_htons(ETH_P_IP)) return steer_v4(ctx, &c);
  if (proto == bpf_htons(ETH_P_IPV6)) return steer_v6(ctx, &c);
  return XDP_PASS;
}

char license_text[] SEC("license") = "Dual BSD/GPL";
