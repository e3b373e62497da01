// getsockopt, setsockopt and ioctl of offloaded sockets.
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "libtoe/epoll.h"
#include "libtoe/libc.h"
#include "libtoe/open.h"
#include "libtoe/options.h"
#include "libtoe/user_memory.h"

namespace toe::libtoe {
namespace {

using shm::AppFlag;
using shm::Line;

constexpr int kMaxLingerSeconds = 0x3fffffff;
constexpr int kMaxKeep = 32'767;  // seconds, as Linux bounds TCP_KEEPIDLE and TCP_KEEPINTVL
constexpr int kMaxKeepCount = 127;
constexpr int kMinReceiveBuffer = 2304;  // Linux's bounds, after doubling
constexpr int kMinSendBuffer = 4608;
constexpr int kMaxBuffer = 2 * static_cast<int>(shm::kMaxRingBytes);
constexpr int kDefaultKeepIdle = 7200;
constexpr int kDefaultKeepInterval = 75;
constexpr int kDefaultKeepCount = 9;

int store_value(const void* from, std::size_t size, void* value, socklen_t* length) {
  if (!may_be_mapped(length) || !may_be_mapped(value, 1)) return -EFAULT;
  if (static_cast<int>(*length) < 0) return -EINVAL;
  const auto room = static_cast<std::size_t>(*length);
  std::memcpy(value, from, std::min(size, room));
  *length = static_cast<socklen_t>(std::min(size, room));
  return 0;
}

int store_int(int number, void* value, socklen_t* length) {
  return store_value(&number, sizeof(number), value, length);
}

bool load_int(const void* value, socklen_t length, int& out) {
  if (value == nullptr || length < sizeof(int)) return false;
  std::memcpy(&out, value, sizeof(out));
  return true;
}

int set_word(Connection& connection, std::atomic<std::uint32_t>& word, std::uint32_t value) {
  word.store(value, std::memory_order_relaxed);
  connection.options_changed();
  return 0;
}

int set_buffer(Connection& connection, std::atomic<std::uint32_t>& word, int value, int least) {
  const int doubled = value > kMaxBuffer / 2 ? kMaxBuffer : std::max(2 * value, least);
  return set_word(connection, word, static_cast<std::uint32_t>(doubled));
}

int set_timeout(std::atomic<std::int64_t>& to, const void* value, socklen_t length) {
  timeval time{};
  if (length < sizeof(time)) return -EINVAL;
  std::memcpy(&time, value, sizeof(time));
  if (time.tv_usec < 0 || time.tv_usec >= 1'000'000) return -EDOM;
  const std::int64_t ns = std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_usec * 1000;
  to.store(time.tv_sec < 0 ? 0 : ns == 0 ? -1 : ns, std::memory_order_relaxed);
  return 0;
}

int get_timeout(const std::atomic<std::int64_t>& from, void* value, socklen_t* length) {
  const std::int64_t ns = std::max<std::int64_t>(0, from.load(std::memory_order_relaxed));
  const timeval time{ns / 1'000'000'000, ns % 1'000'000'000 / 1000};
  return store_value(&time, sizeof(time), value, length);
}

int set_linger(Connection& connection, const void* value, socklen_t length) {
  linger wanted{};
  if (length < sizeof(wanted)) return -EINVAL;
  std::memcpy(&wanted, value, sizeof(wanted));
  const int seconds = std::clamp(wanted.l_linger, 0, kMaxLingerSeconds);
  return set_word(connection, connection.line().linger_s,
                  wanted.l_onoff != 0 ? 1 + static_cast<std::uint32_t>(seconds) : 0);
}

int get_linger(const Line& line, void* value, socklen_t* length) {
  const std::uint32_t word = line.linger_s.load();
  const linger shown{word != 0 ? 1 : 0, word != 0 ? static_cast<int>(word - 1) : 0};
  return store_value(&shown, sizeof(shown), value, length);
}

int set_low_water(Socket& socket, int number) {
  const std::uint32_t most = shm::kMaxRingBytes / 2;
  const std::uint32_t asked = number < 0 ? most : static_cast<std::uint32_t>(number);
  socket.connection.set_low_water(std::clamp(asked, 1u, most));
  if (socket.role() != Role::kConnection) return kLeaveToKernel;  // until it is, as a listener's
  // As Linux: a buffer that the program has set stays; else one grows that would be too small.
  std::atomic<std::uint32_t>& buffer = socket.connection.line().rcvbuf;
  const std::uint32_t needed = buffer_for_low_water(asked);
  if (buffer.load(std::memory_order_relaxed) == 0 && needed != 0) {
    set_word(socket.connection, buffer, needed);
  }
  touch_items(socket);
  if (Attachment* attachment = socket.attachment.load(); attachment != nullptr) {
    attachment->kick_all();
  }
  return 0;
}

int set_socket_level(Socket& socket, int name, const void* value, socklen_t length) {
  Connection& connection = socket.connection;
  if (name == SO_RCVTIMEO) return set_timeout(socket.settings.recv_timeout_ns, value, length);
  if (name == SO_SNDTIMEO) return set_timeout(socket.settings.send_timeout_ns, value, length);
  if (name == SO_LINGER) return set_linger(connection, value, length);
  int number = 0;
  if (!load_int(value, length, number)) return -EINVAL;
  switch (name) {
    case SO_KEEPALIVE:
      connection.set_app_flags(AppFlag::kKeepAlive, number != 0);
      return 0;
    case SO_RCVBUF:
    case SO_RCVBUFFORCE:
      return set_buffer(connection, connection.line().rcvbuf, number, kMinReceiveBuffer);
    case SO_SNDBUF:
    case SO_SNDBUFFORCE:
      return set_buffer(connection, connection.line().sndbuf, number, kMinSendBuffer);
    case SO_RCVLOWAT:
      return set_low_water(socket, number);
    case SO_REUSEADDR:  // flags of a local name that the kernel socket does not have
      socket.settings.reuse_addr.store(number != 0);
      return 0;
    case SO_REUSEPORT:
      socket.settings.reuse_port.store(number != 0);
      return 0;
    case SO_OOBINLINE:
      connection.set_app_flags(AppFlag::kUrgentInline, number != 0);
      return 0;
    case SO_DEBUG:
    case SO_PRIORITY:
    case SO_BROADCAST:  // nothing to do for a stream
    case SO_BUSY_POLL:
      return kLeaveToKernel;
    case SO_TYPE:
    case SO_PROTOCOL:
    case SO_DOMAIN:
    case SO_ERROR:
    default:
      return -ENOPROTOOPT;
  }
}

int set_bounded(Connection& connection, std::atomic<std::uint32_t>& word, int value, int most) {
  if (value < 1 || value > most) return -EINVAL;
  return set_word(connection, word, static_cast<std::uint32_t>(value));
}

int ask_engine(Socket& socket, OptionCall call, const void* value, socklen_t length) {
  Attachment* attachment = socket.attachment.load();
  shm::Option option{};
  if (attachment == nullptr || length > sizeof(option.value)) return -EINVAL;
  option.level = call.level;
  option.name = call.name;
  option.length = length;
  std::memcpy(option.value, value, length);
  const Connection& connection = socket.connection;
  return -attachment->client.set_option(connection.lane().segment(), connection.line_index(),
                                        option);
}

int set_tcp_level(Socket& socket, int name, const void* value, socklen_t length) {
  Connection& connection = socket.connection;
  if (name == TCP_CONGESTION) return ask_engine(socket, {IPPROTO_TCP, name}, value, length);
  int number = 0;
  if (!load_int(value, length, number)) return -EINVAL;
  Line& line = connection.line();
  switch (name) {
    case TCP_NODELAY:
      connection.set_app_flags(AppFlag::kNoDelay, number != 0);
      return 0;
    case TCP_CORK:
      connection.set_app_flags(AppFlag::kCork, number != 0);
      return 0;
    case TCP_QUICKACK:
      connection.set_app_flags(AppFlag::kQuickAck, number != 0);
      return 0;
    case TCP_KEEPIDLE:
      return set_bounded(connection, line.keep_idle_s, number, kMaxKeep);
    case TCP_KEEPINTVL:
      return set_bounded(connection, line.keep_interval_s, number, kMaxKeep);
    case TCP_KEEPCNT:
      return set_bounded(connection, line.keep_count, number, kMaxKeepCount);
    case TCP_USER_TIMEOUT:
      return number < 0
                 ? -EINVAL
                 : set_word(connection, line.user_timeout_ms, static_cast<std::uint32_t>(number));
    case TCP_MAXSEG:
      return ask_engine(socket, {IPPROTO_TCP, name}, value, length);
    case TCP_SYNCNT:  // of a connection that is there already, without effect
    case TCP_DEFER_ACCEPT:
      return kLeaveToKernel;
    case TCP_FASTOPEN:
      return -EINVAL;
    default:
      return -ENOPROTOOPT;
  }
}

int set_listener(Socket& socket, OptionCall call, const void* value, socklen_t length) {
  if (is_kernel_option(call)) return -ENOPROTOOPT;
  if (call.level == SOL_SOCKET && call.name == SO_RCVTIMEO) {
    return set_timeout(socket.settings.recv_timeout_ns, value, length);
  }
  if (call.level == SOL_SOCKET && call.name == SO_SNDTIMEO) {
    return set_timeout(socket.settings.send_timeout_ns, value, length);
  }
  int number = 0;
  if (call.level == SOL_SOCKET && load_int(value, length, number)) {
    if (call.name == SO_REUSEADDR) socket.settings.reuse_addr.store(number != 0);
    if (call.name == SO_REUSEPORT) socket.settings.reuse_port.store(number != 0);
    if (call.name == SO_RCVLOWAT) return set_low_water(socket, number);
  }
  return kLeaveToKernel;
}

int get_buffer(const std::atomic<std::uint32_t>& word, std::uint32_t ring_word) {
  const std::uint32_t set = word.load(std::memory_order_relaxed);
  return static_cast<int>(set != 0 ? set : shm::RingRef{ring_word}.bytes());
}

int get_socket_level(Socket& socket, int name, void* value, socklen_t* length) {
  Connection& connection = socket.connection;
  const Line& line = connection.line();
  switch (name) {
    case SO_ERROR:
      return store_int(connection.take_error(), value, length);
    case SO_ACCEPTCONN:
      return store_int(0, value, length);
    case SO_REUSEADDR:
      return store_int(socket.settings.reuse_addr.load(), value, length);
    case SO_REUSEPORT:
      return store_int(socket.settings.reuse_port.load(), value, length);
    case SO_KEEPALIVE:
      return store_int((connection.app_flags() & AppFlag::kKeepAlive) != 0, value, length);
    case SO_OOBINLINE:
      return store_int((connection.app_flags() & AppFlag::kUrgentInline) != 0, value, length);
    case SO_RCVBUF:
      return store_int(get_buffer(line.rcvbuf, line.rx_ring[line.rx_epoch.load() & 1].load()),
                       value, length);
    case SO_SNDBUF:
      return store_int(get_buffer(line.sndbuf, line.tx_ring[line.tx_taken.load() & 1].load()),
                       value, length);
    case SO_RCVLOWAT:
      return store_int(static_cast<int>(connection.low_water()), value, length);
    case SO_LINGER:
      return get_linger(line, value, length);
    case SO_RCVTIMEO:
      return get_timeout(socket.settings.recv_timeout_ns, value, length);
    case SO_SNDTIMEO:
      return get_timeout(socket.settings.send_timeout_ns, value, length);
    default:
      return kLeaveToKernel;  // type, domain, cookie, reuse flags: the kernel socket knows them
  }
}

int word_or(const std::atomic<std::uint32_t>& word, int otherwise) {
  const std::uint32_t set = word.load(std::memory_order_relaxed);
  return set != 0 ? static_cast<int>(set) : otherwise;
}

void fill_tcp_info(const shm::InfoReply& from, tcp_info& to) {
  to.tcpi_state = static_cast<std::uint8_t>(from.state);
  to.tcpi_ca_state = static_cast<std::uint8_t>(from.ca_state);
  to.tcpi_retransmits = static_cast<std::uint8_t>(from.retransmits);
  to.tcpi_backoff = static_cast<std::uint8_t>(from.backoff);
  to.tcpi_options = static_cast<std::uint8_t>(from.options);
  to.tcpi_snd_wscale = static_cast<std::uint8_t>(from.snd_wscale) & 0xf;
  to.tcpi_rcv_wscale = static_cast<std::uint8_t>(from.rcv_wscale) & 0xf;
  to.tcpi_rto = from.rto_us;
  to.tcpi_ato = from.ato_us;
  to.tcpi_snd_mss = from.snd_mss;
  to.tcpi_rcv_mss = from.rcv_mss;
  to.tcpi_unacked = from.unacked;
  to.tcpi_lost = from.lost;
  to.tcpi_retrans = from.retrans;
  to.tcpi_pmtu = from.pmtu;
  to.tcpi_rtt = from.rtt_us;
  to.tcpi_rttvar = from.rttvar_us;
  to.tcpi_snd_ssthresh = from.snd_ssthresh;
  to.tcpi_snd_cwnd = from.snd_cwnd;
  to.tcpi_rcv_space = from.rcv_space;
  to.tcpi_total_retrans = from.total_retrans;
}

/// The fields that struct tcp_info has behind tcpi_total_retrans, in the kernel's order; libc's
/// struct ends earlier. Offsets are those of the kernel's ABI.
struct TcpInfoTail {
  std::uint64_t pacing_rate, max_pacing_rate, bytes_acked, bytes_received;
  std::uint32_t segs_out, segs_in, notsent_bytes, min_rtt, data_segs_in, data_segs_out;
  std::uint64_t delivery_rate, busy_time, rwnd_limited, sndbuf_limited;
  std::uint32_t delivered, delivered_ce;
  std::uint64_t bytes_sent, bytes_retrans;
};

bool ask_info(Socket& socket, shm::InfoReply& reply) {
  Attachment* attachment = socket.attachment.load();
  const Connection& connection = socket.connection;
  return attachment != nullptr &&
         attachment->client.info(connection.lane().segment(), connection.line_index(), reply);
}

int get_tcp_info(Socket& socket, void* value, socklen_t* length) {
  shm::InfoReply reply{};
  if (!ask_info(socket, reply)) reply.state = TCP_CLOSE;
  struct {
    tcp_info head;
    TcpInfoTail tail;
  } info{};
  static_assert(sizeof(tcp_info) % 8 == 0, "the tail begins where the kernel's does");
  fill_tcp_info(reply, info.head);
  info.tail.pacing_rate = reply.pacing_rate;
  info.tail.bytes_acked = reply.bytes_acked;
  info.tail.bytes_received = reply.bytes_received;
  info.tail.segs_out = reply.segs_out;
  info.tail.segs_in = reply.segs_in;
  info.tail.notsent_bytes = reply.notsent_bytes;
  info.tail.min_rtt = reply.min_rtt_us;
  info.tail.data_segs_in = reply.data_segs_in;
  info.tail.data_segs_out = reply.data_segs_out;
  info.tail.delivery_rate = reply.delivery_rate;
  info.tail.bytes_sent = reply.bytes_sent;
  info.tail.bytes_retrans = reply.bytes_retrans;
  return store_value(&info, sizeof(info), value, length);
}

/// What the program set, else what route or engine chose.
int get_congestion(Socket& socket, void* value, socklen_t* length) {
  shm::InfoReply reply{};
  if (socket.congestion[0] != 0) {
    std::memcpy(reply.congestion, socket.congestion, sizeof(reply.congestion));
  } else {
    ask_info(socket, reply);
  }
  return store_value(reply.congestion, sizeof(reply.congestion), value, length);
}

int get_tcp_level(Socket& socket, int name, void* value, socklen_t* length) {
  const Connection& connection = socket.connection;
  const Line& line = connection.line();
  const std::uint32_t flags = connection.app_flags();
  switch (name) {
    case TCP_NODELAY:
      return store_int((flags & AppFlag::kNoDelay) != 0, value, length);
    case TCP_CORK:
      return store_int((flags & AppFlag::kCork) != 0, value, length);
    case TCP_QUICKACK:
      return store_int((flags & AppFlag::kQuickAck) != 0, value, length);
    case TCP_KEEPIDLE:
      return store_int(word_or(line.keep_idle_s, kDefaultKeepIdle), value, length);
    case TCP_KEEPINTVL:
      return store_int(word_or(line.keep_interval_s, kDefaultKeepInterval), value, length);
    case TCP_KEEPCNT:
      return store_int(word_or(line.keep_count, kDefaultKeepCount), value, length);
    case TCP_USER_TIMEOUT:
      return store_int(word_or(line.user_timeout_ms, 0), value, length);
    case TCP_MAXSEG:
      return store_int(static_cast<int>(line.mss.load()), value, length);
    case TCP_INFO:
      return get_tcp_info(socket, value, length);
    case TCP_CONGESTION:
      return get_congestion(socket, value, length);
    default:
      return kLeaveToKernel;  // its defaults
  }
}

}  // namespace

int socket_setsockopt(Socket& socket, OptionCall call, const void* value, socklen_t length) {
  if (static_cast<int>(length) < 0) return -EINVAL;
  if (length != 0 && !may_be_mapped(value, length)) return -EFAULT;
  if (socket.role() == Role::kListener) return set_listener(socket, call, value, length);
  if (call.level == SOL_SOCKET) return set_socket_level(socket, call.name, value, length);
  if (call.level != IPPROTO_TCP) return -ENOPROTOOPT;
  const int result = set_tcp_level(socket, call.name, value, length);
  if (result == 0 && call.name == TCP_CONGESTION) {
    std::memset(socket.congestion, 0, sizeof(socket.congestion));
    std::memcpy(socket.congestion, value,
                std::min<std::size_t>(length, sizeof(socket.congestion) - 1));
  }
  return result;
}

int socket_getsockopt(Socket& socket, OptionCall call, void* value, socklen_t* length) {
  if (socket.role() == Role::kListener) {
    if (call.level != SOL_SOCKET) return kLeaveToKernel;
    if (call.name == SO_RCVTIMEO)
      return get_timeout(socket.settings.recv_timeout_ns, value, length);
    if (call.name == SO_SNDTIMEO)
      return get_timeout(socket.settings.send_timeout_ns, value, length);
    return kLeaveToKernel;
  }
  if (call.level == SOL_SOCKET) return get_socket_level(socket, call.name, value, length);
  if (call.level == IPPROTO_TCP) return get_tcp_level(socket, call.name, value, length);
  return kLeaveToKernel;
}

int socket_ioctl(Socket& socket, unsigned long request, void* argument) {
  if (!may_be_mapped(argument, sizeof(int))) return kLeaveToKernel;  // not a pointer, or EFAULT
  if (request == FIONBIO) {
    int on = 0;
    std::memcpy(&on, argument, sizeof(on));
    socket.settings.nonblocking.store(on != 0);
    // A listener stays O_NONBLOCK inside.
    return socket.role() == Role::kListener ? 0 : kLeaveToKernel;
  }
  if (socket.role() != Role::kConnection) return kLeaveToKernel;
  std::uint64_t count = 0;
  switch (request) {
    case FIONREAD:
      count = socket.connection.unread_before_mark();
      break;
    case SIOCOUTQ:
      count = socket.connection.unacknowledged();
      break;
    case SIOCATMARK:
      count = socket.connection.at_mark() ? 1 : 0;
      break;
    default:
      return kLeaveToKernel;
  }
  const int shown = static_cast<int>(std::min<std::uint64_t>(count, INT32_MAX));
  std::memcpy(argument, &shown, sizeof(shown));
  return 0;
}

}  // namespace toe::libtoe
