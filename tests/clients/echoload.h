// The two loads of echoload: connections that stay, and connections that come and go.
#ifndef TOE_CLIENTS_ECHOLOAD_H_
#define TOE_CLIENTS_ECHOLOAD_H_

#include <cstdint>
#include <string>

namespace toe::clients {

struct EchoOptions {
  std::string server = "127.0.0.1:7";
  std::string sources;  ///< client addresses; empty: the route's
  unsigned connections = 1;
  std::size_t size = 64;  ///< bytes of a message
  unsigned depth = 1;     ///< messages in flight per connection
  double seconds = 2;     ///< measured time, after the warm-up
  double warmup = 0;
  std::uint64_t count = 0;     ///< stop after this many messages or connections; 0: by time
  double idle = 0;             ///< steady: after one message each, stay silent this long
  bool server_closes = false;  ///< connects: wait for the server's end
  std::uint64_t seed = 1;
  std::string json;
  std::string tuples;  ///< steady: file that receives the addresses once connected
};

/// Connections that stay open, each with `depth` messages in flight. Exit status.
int run_steady(const EchoOptions& options);
/// Connect, one message, close, `connections` at a time. Exit status.
int run_connects(const EchoOptions& options);

}  // namespace toe::clients

#endif  // TOE_CLIENTS_ECHOLOAD_H_
