#include "watch.h"

#include <sys/epoll.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iostream>

#include "net.h"

namespace toe::clients {
namespace {

volatile std::sig_atomic_t stop_asked = 0;

}  // namespace

void Progress::moved(std::uint64_t now) {
  if (now > last_) longest_ = std::max(longest_, now - last_);
  last_ = now;
  stalled_ = false;
}

void Progress::look(std::uint64_t now, const std::string& name) {
  if (now <= last_ || now - last_ <= kStall) return;
  longest_ = std::max(longest_, now - last_);
  if (!stalled_) {
    stalled_ = true;
    ++stalls_;
    std::fprintf(stderr, "stall: %s\n", name.c_str());
  }
  if (now - last_ > kHopeless) throw RunFailed("no byte for 10 s on " + name);
}

void Ticker::tick(std::uint64_t now, std::uint64_t done, const std::string& extra) {
  if (last_ == 0) last_ = start_;
  if (now - last_ < 1'000'000'000u) return;
  const double seconds = static_cast<double>(now - last_) / 1e9;
  std::fprintf(stderr, "%s: %3.0f s %10llu done %9.0f/s  %s\n", name_.c_str(),
               static_cast<double>(now - start_) / 1e9, static_cast<unsigned long long>(done),
               static_cast<double>(done - last_done_) / seconds, extra.c_str());
  last_ = now;
  last_done_ = done;
}

void write_json(const std::string& path, const nlohmann::json& value) {
  if (path.empty() || path == "-") {
    std::cout << value.dump() << std::endl;
    return;
  }
  const std::string beside = path + ".part";
  std::ofstream(beside) << value.dump() << "\n";
  if (std::rename(beside.c_str(), path.c_str()) != 0) fail_errno("rename " + path);
}

void write_tuples(const std::string& path, const std::vector<int>& fds, const std::string& remote) {
  nlohmann::json tuples = nlohmann::json::array();
  for (const int fd : fds) tuples.push_back({{"local", local_of(fd).text()}, {"remote", remote}});
  write_json(path, tuples);
}

void stay_silent(int epoll, double seconds, const std::string& name) {
  std::signal(SIGTERM, [](int) { stop_asked = 1; });
  std::cerr << name << ": idle with all connections open" << std::endl;
  const std::uint64_t end = now_ns() + static_cast<std::uint64_t>(seconds * 1e9);
  epoll_event event{};
  for (std::uint64_t now = now_ns(); stop_asked == 0 && now < end; now = now_ns()) {
    const std::uint64_t left_ms = std::min<std::uint64_t>((end - now) / 1'000'000 + 1, 10'000);
    if (::epoll_wait(epoll, &event, 1, static_cast<int>(left_ms)) > 0) {
      throw RunFailed("an idle connection had something to read");
    }
  }
}

double own_cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

}  // namespace toe::clients
