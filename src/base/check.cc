#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace toe {

void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "flextoe: check failed: %s (%s:%d)\n", condition, file, line);
  std::abort();
}

}  // namespace toe
