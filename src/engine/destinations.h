// Destinations: what control needs to know to send a packet somewhere, kept true while it wants.
// Routes and neighbours are the kernel's; this asks and follows.
#ifndef TOE_ENGINE_DESTINATIONS_H_
#define TOE_ENGINE_DESTINATIONS_H_

#include <functional>
#include <map>
#include <optional>
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
  /// Anybody on the link can cause changes without end. So after each round of them this rests:
  /// kSettle, and so long for each destination that was told or looked up, some times its cost.
  static constexpr Nanos kRest = micros(50);
  /// Destinations looked up by one poll(); the caller has other work.
  static constexpr std::size_t kLooksPerTurn = 256;

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

  /// Told by poll().
  void on_neighbour(const net::Neighbour& neighbour);
  void on_link(const net::LinkEvent& link);
  /// Routes or addresses changed: everything is looked up again soon.
  void on_change(Time now);
  /// Tells what has changed. To be called behind events and when next_deadline() has come.
  void poll(Time now);
  Time next_deadline() const;

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
  /// Returns whether this changes an earlier answer.
  bool answer(const Key& key, Entry& entry, const control::Route& route);
  control::Route direct(const Entry& entry, const MacAddr& mac) const;
  bool on_hop(const Key& key, Entry& entry, const net::Neighbour& neighbour);
  void begin_round(Time now);
  void tell_hop(const net::Neighbour& event);
  void look_at_some();

  net::RouteLookup lookup_;
  net::Neighbours neighbours_;
  port::Device device_;
  const std::uint32_t most_mtu_;
  Answer answer_;
  std::map<Key, Entry> entries_;
  std::map<IpAddr, std::set<Key>> by_hop_;
  std::map<IpAddr, net::Neighbour> changed_hops_;  ///< with the last event of each, to be told
  Time look_again_ = Time::never();
  std::optional<Key> look_from_;  ///< a look at all is under way: its next one
  std::int64_t round_ = 0;        ///< answers changed and destinations looked up in this round
  Time rests_until_;
};

}  // namespace toe::engine

#endif  // TOE_ENGINE_DESTINATIONS_H_
