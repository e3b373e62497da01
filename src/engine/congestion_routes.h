// Congestion control by destination: prefixes with the algorithm that connections to them use.
#ifndef TOE_ENGINE_CONGESTION_ROUTES_H_
#define TOE_ENGINE_CONGESTION_ROUTES_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/addr.h"
#include "base/result.h"

namespace toe::engine {

class CongestionRoutes {
 public:
  static constexpr std::size_t kMaxRoutes = 256;

  /// From "10.0.0.0/8=dctcp,fd00::/8=timely": addresses without length stand for themselves. Fails
  /// with what is wrong.
  static Result<CongestionRoutes> parse(std::string_view text);

  /// Algorithm of the longest prefix that contains the address; "" when there is none.
  std::string_view find(const IpAddr& remote) const;

 private:
  struct Entry {
    IpAddr prefix;
    unsigned bits = 0;  ///< of the 128
    std::string algorithm;
  };
  static Status parse_entry(std::string_view text, Entry& out);

  std::vector<Entry> entries_;  ///< longest prefix first
};

}  // namespace toe::engine

#endif  // TOE_ENGINE_CONGESTION_ROUTES_H_
