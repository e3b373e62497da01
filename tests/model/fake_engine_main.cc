// fake_engine SOCKET [SLOWNESS]: serves until its standard input ends; then prints what it has
// served.
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>

#include "fake_engine.h"

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) {
    std::fprintf(stderr, "usage: fake_engine SOCKET [SLOWNESS]\n");
    return 2;
  }
  toe::test::FakeEngine engine(argv[1]);
  if (argc == 3) engine.slowness = static_cast<int>(std::strtol(argv[2], nullptr, 10));
  std::printf("ready\n");
  std::fflush(stdout);
  char sink[64];
  while (::read(STDIN_FILENO, sink, sizeof(sink)) > 0) {
  }
  std::printf("connects=%" PRIu64 " accepts=%" PRIu64 " rx_switches=%" PRIu64
              " tx_switches=%" PRIu64 "\n",
              engine.connects(), engine.accepts(), engine.rx_switches(), engine.tx_switches());
  return 0;
}
