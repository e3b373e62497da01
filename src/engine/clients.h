// Attached programs: their control sockets, what was sent to them, and what they ask.
//
// Every message is checked before it is used; a program that breaks the rules, or does not read its
// answers, is disconnected with a logged reason. Nothing here waits for a program.
#ifndef TOE_ENGINE_CLIENTS_H_
#define TOE_ENGINE_CLIENTS_H_

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/types.h"
#include "base/unique_fd.h"
#include "engine/bridge.h"
#include "engine/doorbells.h"
#include "engine/engine_page.h"
#include "engine/listeners.h"
#include "engine/log.h"
#include "engine/segment_store.h"
#include "engine/socket_io.h"
#include "engine/users.h"

namespace toe::engine {

/// Parts of the admin thread that the clients work with; all outlive them.
struct ClientLinks {
  Bridge& bridge;
  EnginePage& page;
  SegmentStore& segments;
  Listeners& listeners;
  std::uint64_t netns_cookie;
  Nanos yield_time;
  UserLimits limits;
};

struct Client {
  ClientId id = kNoClient;
  UniqueFd socket;
  std::int32_t pid = 0;
  std::uint32_t uid = 0;
  bool attached = false;
  std::string comm;
  UniqueFd bell_write;  ///< ours, so that the worker's end never reports the end of the pipe
  int bell_read = -1;   ///< the worker's
  std::set<SegmentId> segments;      ///< sent to it
  std::set<SegmentId> own_segments;  ///< made for it
  std::set<std::uint32_t> bells;     ///< doorbells of its contexts
  std::uint32_t unanswered = 0;
  std::array<std::uint64_t, static_cast<std::size_t>(shm::KernelReason::kCount)>
      kernel{};  ///< sockets it left to the kernel, by reason, as reported
};

/// Thread: admin.
class Clients {
 public:
  static constexpr std::size_t kMaxClients = 2048;
  static constexpr std::size_t kSparedClients = 64;  ///< of them only root has the last ones
  static constexpr std::size_t kMaxSegmentsPerClient = 64;
  static constexpr std::size_t kMaxBellsPerClient = 256;
  static constexpr std::uint32_t kMaxUnanswered = 1024;
  static constexpr int kMessagesPerTurn = 16;  ///< then the others have their turn

  using AdminVerb = std::function<void(Client& client, const shm::Admin& message)>;

  Clients(const ClientLinks& links, AdminVerb on_admin);

  /// A connection to the control socket. Returns the descriptor to watch, -1 if it was refused.
  int accept(UniqueFd socket);
  /// The client's socket is readable. False: its user asks too much; not again before a while.
  bool on_readable(int socket);
  /// What control asks of the World, as far as it concerns clients.
  void on_note(const Note& note);
  /// False: it was not taken, the client is gone.
  bool send(Client& client, std::span<const std::uint8_t> message, std::span<const int> fds = {});
  Client* find(ClientId id);
  const std::map<int, Client>& all() const { return clients_; }
  const Users& users() const { return users_; }
  /// From now on nothing more is offloaded, or it is again: packet filter rules are there that
  /// would not see it.
  void set_filtered(bool filtered) { filtered_ = filtered; }

 private:
  /// A question passed to control, whose answer this side must see too.
  struct Pending {
    std::uint64_t cookie = 0;  ///< kListen
    std::uint32_t bell = 0;    ///< kContext with a new doorbell
    int bell_read = -1;
    std::uint32_t uid = 0;
  };
  using Fds = std::vector<UniqueFd>;

  void take(Client& client, Packet& packet);
  const char* dispatch(Client& client, std::span<const std::uint8_t> bytes, Fds& fds);
  const char* on_foreign_hello(Client& client, const shm::HelloBegin& message);
  const char* on_hello(Client& client, const shm::Hello& message);
  const char* on_listen(Client& client, const shm::Listen& message, Fds& fds);
  const char* on_connect(Client& client, const shm::Connect& message, const Fds& fds);
  const char* on_show(Client& client, const shm::Show& message, const Fds& fds);
  const char* on_context(Client& client, const shm::ContextMessage& message);
  const char* on_info(Client& client, const shm::Info& message);
  const char* on_option(Client& client, const shm::Option& message);
  const char* on_report(Client& client, const shm::Report& message);

  bool welcome(Client& client, const shm::Hello& message);
  bool make_doorbell(Client& client, UniqueFd& write_end);
  /// False: none can be given. The client may be gone afterwards.
  bool give_segment(Client& client, control::Request::Kind kind);
  void share_segment(Client& client, SegmentId id);
  void on_free_segment(SegmentId id);
  const char* ask(Client& client, const control::Request& request);
  const char* ask_pending(Client& client, const control::Request& request, const Pending& pending);
  void refuse(Client& client, std::uint64_t tag, shm::KernelReason reason, int error);
  void on_reply(const Note& note);
  void settle(Client* client, ClientId id, const shm::MessageHeader& header, int& fd_along);
  void disconnect(Client& client, const char* reason);
  void drop_bell(std::uint32_t uid, std::uint32_t number);

  ClientLinks links_;
  AdminVerb on_admin_;
  std::map<int, Client> clients_;  ///< by socket
  std::map<ClientId, int> sockets_;
  std::map<std::pair<ClientId, std::uint64_t>, Pending> pending_;
  Users users_;
  std::map<SegmentId, std::uint32_t> segment_users_;
  std::set<ClientId> wanting_;  ///< a further segment, when there is one
  BellNumbers bell_numbers_;
  LogLimiter limiter_;
  std::uint32_t next_id_ = 0;
  bool filtered_ = false;
};

}  // namespace toe::engine

#endif  // TOE_ENGINE_CLIENTS_H_
