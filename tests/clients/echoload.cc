// echoload: a closed-loop client of an echo server that checks every byte. Exit status: 0 all
// answers right, 1 not, 2 usage.
#include "echoload.h"

#include "net.h"
#include "program.h"

int main(int argc, char** argv) {
  toe::clients::EchoOptions options;
  bool connects = false;
  CLI::App app("Loads an echo server and checks every byte", "echoload");
  app.add_option("--server", options.server, "ADDRESS:PORT or [ADDRESS]:PORT");
  app.add_option("--sources", options.sources, "client addresses, such as 10.77.0.10-10.77.0.25");
  app.add_option("-c,--connections", options.connections)->check(CLI::Range(1, 100000));
  app.add_option("--size", options.size)->check(CLI::Range(1, 16 << 20));
  app.add_option("--depth", options.depth)->check(CLI::Range(1, 1024));
  app.add_option("--seconds", options.seconds)->check(CLI::Range(0.0, 86400.0));
  app.add_option("--warmup", options.warmup)->check(CLI::Range(0.0, 3600.0));
  app.add_option("-n,--count", options.count, "stop after this many instead of by time");
  app.add_option("--idle", options.idle, "after one message each, stay silent for this many s");
  app.add_flag("--connects", connects, "connect, one message, close, over and over");
  app.add_flag("--server-closes", options.server_closes, "with --connects: the server ends first");
  app.add_option("--seed", options.seed);
  app.add_option("--json", options.json, "file of the result (default: stdout)");
  app.add_option("--tuples", options.tuples, "file that receives the addresses once connected");
  return toe::clients::run_program(app, argc, argv, [&] {
    toe::clients::raise_fd_limit();
    return connects ? run_connects(options) : run_steady(options);
  });
}
