#include "libtoe/libc.h"

#include <dlfcn.h>

namespace toe::libtoe {

constinit Libc g_libc;

void load_libc() {
#define TOE_LIBC_LOAD(name) \
  g_libc.name = reinterpret_cast<decltype(g_libc.name)>(::dlsym(RTLD_NEXT, #name));
  TOE_LIBC_NAMES(TOE_LIBC_LOAD)
#undef TOE_LIBC_LOAD
  g_libc.ready = true;
}

namespace {

/// Before the first thread: later calls only read. Constructors that run earlier load it
/// themselves.
[[gnu::constructor]] void load_early() { load_libc(); }

}  // namespace

}  // namespace toe::libtoe
