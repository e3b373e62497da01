#include "engine/service_manager.h"

#include <sys/socket.h>

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>

#include <fmt/format.h>

namespace toe::engine {
namespace {

bool parse(const char* text, std::int64_t& out) {
  const char* end = text + std::strlen(text);
  const auto result = std::from_chars(text, end, out);
  return result.ec == std::errc() && result.ptr == end && out > 0;
}

/// The watchdog is meant for the process that $WATCHDOG_PID names, or for everybody.
Nanos patience_of(const ServiceManager::Lookup& environment, pid_t self) {
  constexpr std::int64_t kMost = INT64_MAX / 1000;
  const char* limit = environment("WATCHDOG_USEC");
  const char* process = environment("WATCHDOG_PID");
  std::int64_t microseconds = 0;
  std::int64_t pid = 0;
  if (limit == nullptr || !parse(limit, microseconds) || microseconds > kMost) return Nanos{0};
  if (process != nullptr && (!parse(process, pid) || pid != self)) return Nanos{0};
  return micros(microseconds);
}

}  // namespace

Result<ServiceManager> ServiceManager::of(const Lookup& environment, pid_t self) {
  ServiceManager manager;
  const char* path = environment("NOTIFY_SOCKET");
  if (path == nullptr || *path == '\0') return manager;
  const std::size_t length = std::strlen(path);
  const bool abstract = path[0] == '@';
  if ((path[0] != '/' && !abstract) || length >= sizeof manager.address_.sun_path) {
    return Error{EINVAL, fmt::format("NOTIFY_SOCKET is '{}', which is no socket", path)};
  }
  manager.address_.sun_family = AF_UNIX;
  std::memcpy(manager.address_.sun_path, path, length);
  if (abstract) manager.address_.sun_path[0] = '\0';
  manager.address_bytes_ =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length + (abstract ? 0 : 1));
  manager.socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!manager.socket_.valid()) {
    return Error{errno, std::string("no socket to the service manager: ") + std::strerror(errno)};
  }
  manager.patience_ = patience_of(environment, self);
  return manager;
}

void ServiceManager::ready(std::string_view status) {
  send(fmt::format("READY=1\nSTATUS={}\n", status), 0);
}

void ServiceManager::stopping(std::string_view status) {
  send(fmt::format("STOPPING=1\nSTATUS={}\n", status), MSG_DONTWAIT);
}

void ServiceManager::status(std::string_view text) {
  send(fmt::format("STATUS={}\n", text), MSG_DONTWAIT);
}

void ServiceManager::alive() { send("WATCHDOG=1\n", MSG_DONTWAIT); }

// To the address each time: a manager that was restarted has another socket at the same path.
void ServiceManager::send(const std::string& text, int flags) {
  if (!socket_.valid()) return;
  (void)::sendto(socket_.get(), text.data(), text.size(), flags | MSG_NOSIGNAL,
                 reinterpret_cast<const sockaddr*>(&address_), address_bytes_);
}

}  // namespace toe::engine
