// The names that install signal handlers.
#include "libtoe/preload/preload.h"
#include "libtoe/signals.h"

using toe::libtoe::libc;
using toe::libtoe::set_handler;

TOE_EXPORT int sigaction(int signal, const struct sigaction* wanted,
                         struct sigaction* before) noexcept {
  return toe::libtoe::set_action(signal, wanted, before);
}

TOE_EXPORT sighandler_t signal(int signal, sighandler_t handler) noexcept {
  return set_handler(signal, handler, libc().signal);
}

TOE_EXPORT sighandler_t ssignal(int signal, sighandler_t handler) noexcept {
  return set_handler(signal, handler, libc().signal);
}

TOE_EXPORT sighandler_t sysv_signal(int signal, sighandler_t handler) noexcept {
  return set_handler(signal, handler, libc().sysv_signal);
}

TOE_EXPORT sighandler_t __sysv_signal(int signal, sighandler_t handler) noexcept {
  return set_handler(signal, handler, libc().sysv_signal);
}
