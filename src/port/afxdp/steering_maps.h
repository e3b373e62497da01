// What the steering program and the engine share: map layouts, states and counters.
// Included by C (the program in bpf/) and by C++; see docs/formats/steering.md.
#ifndef TOE_PORT_AFXDP_STEERING_MAPS_H_
#define TOE_PORT_AFXDP_STEERING_MAPS_H_

#include <linux/types.h>

enum {
  STEER_QUEUES = 64,        // slots of the socket map
  STEER_ADDRESSES = 64,     // local addresses
  STEER_PORT_WORDS = 1024,  // 65536 ports, 64 in a word
  STEER_VLAN_WORDS = 64,    // 4096 VLAN ids, 64 in a word
  STEER_EXCEPTIONS = 65536,
  STEER_MAX_VLAN_TAGS = 2,
  STEER_MAX_IPV6_HEADERS = 8,  // extension headers walked in front of TCP
};

// State of 64 ports of one local address. A port may have several bits set.
struct steer_ports {
  __u64 owned;     // redirect
  __u64 syn_only;  // redirect a SYN without ACK
  __u64 except;    // ask the exception map first
  __u64 unused;
};

// A connection, seen from this host. Addresses in IPv6 form (IPv4 is v4-mapped), all in network
// byte order.
struct steer_tuple {
  __u8 local[16];
  __u8 remote[16];
  __u16 local_port;
  __u16 remote_port;
};

// Value of an exception: who keeps the connection.
enum { STEER_KERNEL_KEEPS = 1, STEER_ENGINE_KEEPS = 2 };

struct steer_config {
  __u8 mac[6];
  __u16 unused;
};

enum steer_counter {
  STEER_EXCEPTION_PASSED,      // left to the kernel, which holds the connection
  STEER_EXCEPTION_REDIRECTED,  // taken although the port is not owned: it drains
  STEER_FRAGMENT_DROPPED,      // first fragment to an owned port
  STEER_FRAGMENT_PASSED,       // later fragment to a local address, perhaps TCP
  STEER_HEADERS_DROPPED,       // more extension headers than are walked
  STEER_VLAN_PASSED,           // a tag that is not configured, or too many
  STEER_COUNTERS
};

#endif  // TOE_PORT_AFXDP_STEERING_MAPS_H_
