// Destinations: what control needs to know to send a packet somewhere, kept true while it wants.
// Routes and neighbours are the kernel's; this asks and follows.
#ifndef TOE_ENGINE_DESTINATIONS_H_
#define TOE_ENGINE_DESTINATIONS_H_

#include <functional>
#include <map>
#include <set>
#include <string>

#include "base/result.h"
#include "control/world.h"
#include "engine/net/events.h"
#include "engine/net/neighbours.h"
#include "engine/net/route.h"
#include "port/port.h"

namespace toe::engine {

/// Thread: admin.
class Destinations {
 public:
  static constexpr std::size_t kMaxDestinations = 32768;
  /// Changes of routes come in herds: they are looked up again this long after the first.
  static constexpr Nanos kSettle = millis(20);

  using Key = control::RouteKey;
  using Answer = std::function<void(const Key& key, const control::Route& route)>;

  /// `most_mtu`: no packet is longer, whatever device and route allow.
  Destinations(net::RouteLookup lookup, net::Neighbours neighbours, const port::Device& device,
               std::uint32_t most_mtu, Answer answer);

  /// Answers now, or as soon as the next hop is known; again when the answer changes.
  void want(const Key& key);
  void forget(const Key& key);
  /// Segments to it time out: asks the next hop again.
  void confirm(const Key& key);

  void on_neighbour(const net::Neighbour& neighbour);
  void on_link(const net::LinkEvent& link);
  /// Routes or addresses changed: everything is looked up again soon.
  void on_change(Time now);
  /// REQUIRES: called when next_deadline() has come.
  void poll(Time now);
  Time next_deadline() const { return look_again_; }

 private:
  struct Entry {
    control::Route last;
    bool answered = false;
    bool kept = false;  ///< holds next_hop among the neighbours
    IpAddr next_hop;
    std::uint32_t mtu = 0;
    std::uint32_t advmss = 0;
    std::string congestion;
    IpAddr source;
  };

  Result<net::Route> find(const Key& key);
  void look_up(const Key& key, Entry& entry);
  void follow(const Key& key, Entry& entry, const IpAddr& next_hop);
  void let_go(const Key& key, Entry& entry);
  void answer(const Key& key, Entry& entry, const control::Route& route);
  control::Route direct(const Entry& entry, const MacAddr& mac) const;
  void on_hop(const Key& key, Entry& entry, const net::Neighbour& neighbour);

  net::RouteLookup lookup_;
  net::Neighbours neighbours_;
  port::Device device_;
  const std::uint32_t most_mtu_;
  Answer answer_;
  std::map<Key, Entry> entries_;
  std::map<IpAddr, std::set<Key>> by_hop_;
  Time look_again_ = Time::never();
};

}  // namespace toe::engine

#endif  // TOE_ENGINE_DESTINATIONS_H_
