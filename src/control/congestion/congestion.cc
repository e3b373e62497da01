#include "control/congestion/congestion.h"

namespace toe::control {

const Congestion* find_congestion(std::string_view name) {
  for (const Congestion* c : {&cubic(), &reno()}) {
    if (c->name == name) return c;
  }
  return nullptr;
}

}  // namespace toe::control
