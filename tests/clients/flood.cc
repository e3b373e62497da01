// Sends frames made by somebody else through a packet socket, round and round, at full speed or
// at a rate, until as many have left or the time is over.
#include <net/if.h>
#include <netpacket/packet.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/unique_fd.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kBatch = 64;
constexpr std::size_t kMaxFrames = 1 << 16;
constexpr std::uint64_t kMaxCount = 1'000'000'000;

struct Options {
  std::string device;
  std::string frames;
  std::uint64_t count = kMaxCount;
  std::uint32_t rate = 0;
  double seconds = 5;
};

/// The file: of each frame its length (16 bits, the less significant byte first) and its bytes.
std::vector<std::vector<char>> read_frames(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  const std::vector<char> all((std::istreambuf_iterator<char>(file)), {});
  std::vector<std::vector<char>> frames;
  for (std::size_t at = 0; at + 2 <= all.size() && frames.size() < kMaxFrames;) {
    const auto low = static_cast<std::uint8_t>(all[at]);
    const auto high = static_cast<std::uint8_t>(all[at + 1]);
    const std::size_t length = low | std::size_t{high} << 8;
    at += 2;
    if (length == 0 || length > all.size() - at) throw std::runtime_error("bad frame in " + path);
    frames.emplace_back(&all[at], &all[at] + length);
    at += length;
  }
  if (frames.empty()) throw std::runtime_error("no frame in " + path);
  return frames;
}

class Flood {
 public:
  explicit Flood(const Options& o)
      : options_(o),
        frames_(read_frames(o.frames)),
        socket_(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)) {
    to_.sll_family = AF_PACKET;
    to_.sll_ifindex = static_cast<int>(::if_nametoindex(o.device.c_str()));
    if (!socket_.valid() || to_.sll_ifindex == 0) {
      throw std::runtime_error("no packet socket on the device");
    }
  }

  void run() {
    start_ = Clock::now();
    while (sent_ < options_.count && elapsed() < options_.seconds) {
      const std::uint64_t left = allowed();
      if (left == 0) {
        std::this_thread::sleep_for(std::chrono::microseconds(200));
      } else {
        send_batch(std::min<std::uint64_t>(left, kBatch));
      }
    }
    std::printf("{\"sent\": %llu, \"seconds\": %.3f}\n", static_cast<unsigned long long>(sent_),
                elapsed());
  }

 private:
  double elapsed() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

  /// How many frames may leave now.
  std::uint64_t allowed() const {
    const std::uint64_t left = options_.count - sent_;
    if (options_.rate == 0) return left;
    const auto due = static_cast<std::uint64_t>(elapsed() * options_.rate);
    return due <= sent_ ? 0 : std::min(left, due - sent_);
  }

  void send_batch(std::size_t count) {
    std::array<mmsghdr, kBatch> messages{};
    std::array<iovec, kBatch> parts{};
    for (std::size_t i = 0; i < count; ++i) {
      std::vector<char>& frame = frames_[(sent_ + i) % frames_.size()];
      parts[i] = {frame.data(), frame.size()};
      messages[i].msg_hdr.msg_name = &to_;
      messages[i].msg_hdr.msg_namelen = sizeof to_;
      messages[i].msg_hdr.msg_iov = &parts[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
    const int n = ::sendmmsg(socket_.get(), messages.data(), static_cast<unsigned>(count), 0);
    if (n > 0) {
      sent_ += static_cast<std::uint64_t>(n);
    } else if (errno == ENOBUFS || errno == EAGAIN) {
      std::this_thread::yield();  // the device's queue is full
    } else {
      throw std::runtime_error("the device refuses frames: errno " + std::to_string(errno));
    }
  }

  Options options_;
  std::vector<std::vector<char>> frames_;
  toe::UniqueFd socket_;
  sockaddr_ll to_{};
  std::uint64_t sent_ = 0;
  Clock::time_point start_;
};

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app{"Sends frames of a file round and round through a packet socket"};
  app.add_option("--dev", o.device, "interface to send from")->required();
  app.add_option("--frames", o.frames, "file: of each frame its length (16 bits) and its bytes")
      ->required();
  app.add_option("--count", o.count, "so many frames at most")
      ->check(CLI::Range(std::uint64_t{1}, kMaxCount))
      ->capture_default_str();
  app.add_option("--rate", o.rate, "frames a second; 0: as fast as the device takes them")
      ->check(CLI::Range(0, 10000000))
      ->capture_default_str();
  app.add_option("--seconds", o.seconds, "how long at most")
      ->check(CLI::Range(0.01, 600.0))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    Flood(o).run();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "flood: %s\n", e.what());
    return 1;
  }
  return 0;
}
