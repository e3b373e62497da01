// What the steering program and the engine share: map layouts, states and counters.
// Included by C (the program in bpf/) and by C++; see docs/formats/steering.md.
#ifndef TOE_PORT_AFXDP_STEERING_MAPS_H_
#define TOE_PORT_AFXDP_STEERING_MAPS_H_

#include <linux/types.h>

enum {
  kSteerQueues = 64,       // slots of the socket map
  kSteerAddresses = 64,    // local addresses
  kSteerPortWords = 1024,  // 65536 ports, 64 in a word
  kSteerVlanWords = 64,    // 4096 VLAN ids, 64 in a word
  kSteerExceptions = 65536,
  kSteerMaxVlanTags = 2,
  kSteerMaxIpv6Headers = 8,  // extension headers walked in front of TCP
  kSteerAway = 1 << 16,      // beside the index of an address: the device has lost it
  kSteerInet = 2,            // AF_INET, AF_INET6
  kSteerInet6 = 10,
};

// State of 64 ports of one local address. A port may have several bits set.
struct SteerPorts {
  __u64 owned;     // redirect
  __u64 syn_only;  // redirect a SYN without ACK
  __u64 except;    // ask the exception map first
  __u64 changing;  // drop what would be redirected without an exception
};

// A connection, seen from this host. Addresses in IPv6 form (IPv4 is v4-mapped), all in network
// byte order.
struct SteerTuple {
  __u8 local[16];
  __u8 remote[16];
  __u16 local_port;
  __u16 remote_port;
};

// Value of an exception: who keeps the connection.
enum { kSteerKernelKeeps = 1, kSteerEngineKeeps = 2 };

struct SteerConfig {
  __u8 mac[6];
  __u16 unused;
};

enum SteerCounter {
  kSteerExceptionPassed,      // left to the kernel, which holds the connection
  kSteerExceptionRedirected,  // taken although the port is not owned: it drains
  kSteerFragmentDropped,      // first fragment to an owned port
  kSteerFragmentPassed,       // later fragment to a local address, perhaps TCP
  kSteerHeadersDropped,       // more extension headers than are walked
  kSteerVlanPassed,           // a tag that is not configured, or too many
  kSteerChangingDropped,      // while the device's MAC or address, or the port's side, changes
  kSteerCounters
};

#endif  // TOE_PORT_AFXDP_STEERING_MAPS_H_
