// What the engine tells the service manager that started it: systemd's notify protocol
// (sd_notify(3), datagrams of VARIABLE=VALUE lines to $NOTIFY_SOCKET).
#ifndef TOE_ENGINE_SERVICE_MANAGER_H_
#define TOE_ENGINE_SERVICE_MANAGER_H_

#include <sys/types.h>
#include <sys/un.h>

#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/types.h"
#include "base/unique_fd.h"

namespace toe::engine {

/// Thread: start-up, then admin. Without a manager every call does nothing.
class ServiceManager {
 public:
  using Lookup = std::function<const char*(const char* name)>;

  /// No manager.
  ServiceManager() = default;
  /// The manager that the environment names. Fails when it names one that cannot be spoken to.
  static Result<ServiceManager> of(const Lookup& environment, pid_t self);

  /// Start-up is over. Waits until the manager takes it.
  void ready(std::string_view status);
  void stopping(std::string_view status);
  /// One line for `systemctl status`.
  void status(std::string_view text);
  /// For the watchdog.
  void alive();

  /// How long the manager waits for alive() before it ends the engine; 0 = for ever.
  Nanos patience() const { return patience_; }

 private:
  void send(const std::string& text, int flags);

  UniqueFd socket_;
  sockaddr_un address_{};
  socklen_t address_bytes_ = 0;
  Nanos patience_{0};
};

}  // namespace toe::engine

#endif  // TOE_ENGINE_SERVICE_MANAGER_H_
