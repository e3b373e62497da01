// A wire inside the kernel: what comes in at one device goes out at the other, except what is
// lost; marks congestion. Attached at the tc ingress of both devices by the test wire's program.
//
// The headers of libbpf need the kernel's before them.
// clang-format off
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
// clang-format on

#include "netlab/draw.h"
#include "netlab/fast_maps.h"

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, kNetlabDirections);
  __type(key, __u32);
  __type(value, struct NetlabFast);
} directions SEC(".maps");

static __always_inline int is_tcp(struct __sk_buff *skb) {
  void *start = (void *)(long)skb->data;
  void *end = (void *)(long)skb->data_end;
  struct ethhdr *eth = start;
  struct iphdr *ip = (void *)(eth + 1);
  struct ipv6hdr *ip6 = (void *)(eth + 1);
  if ((void *)(eth + 1) > end) return 0;
  if (eth->h_proto == bpf_htons(ETH_P_IP)) {
    return (void *)(ip + 1) <= end && ip->protocol == IPPROTO_TCP;
  }
  if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
    return (void *)(ip6 + 1) <= end && ip6->nexthdr == IPPROTO_TCP;
  }
  return 0;
}

static __always_inline int forward(struct __sk_buff *skb, __u32 direction) {
  struct NetlabFast *to = bpf_map_lookup_elem(&directions, &direction);
  if (!to) return TC_ACT_SHOT;
  __sync_fetch_and_add(&to->frames, 1);
  __sync_fetch_and_add(&to->bytes, skb->len);
  if (!to->tcp_only || is_tcp(skb)) {
    __u64 number = __sync_fetch_and_add(&to->selected, 1) + 1;
    if (to->every != 0 && number % to->every == 0) {
      __sync_fetch_and_add(&to->lost_every, 1);
      return TC_ACT_SHOT;
    }
    if (netlab_draw(to->seed, number, kNetlabLoss) < to->loss) {
      __sync_fetch_and_add(&to->lost, 1);
      return TC_ACT_SHOT;
    }
    if (netlab_draw(to->seed, number, kNetlabMark) < to->mark && bpf_skb_ecn_set_ce(skb)) {
      __sync_fetch_and_add(&to->marked, 1);
    }
  }
  return bpf_redirect(to->out_ifindex, 0);
}

SEC("tc")
int to_server(struct __sk_buff *skb) { return forward(skb, kNetlabToServer); }

SEC("tc")
int to_client(struct __sk_buff *skb) { return forward(skb, kNetlabToClient); }

char license_text[] SEC("license") = "Dual BSD/GPL";
