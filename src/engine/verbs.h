// The admin verbs of the control socket: facts are collected from the worker in the background and
// answered as JSON in a sealed memfd.
#ifndef TOE_ENGINE_VERBS_H_
#define TOE_ENGINE_VERBS_H_

#include <functional>
#include <list>
#include <memory>
#include <span>
#include <string>

#include "control/control.h"
#include "engine/bridge.h"
#include "engine/clients.h"
#include "engine/core.h"
#include "engine/json.h"
#include "engine/options.h"
#include "port/afxdp/steering.h"

namespace toe::engine {

/// All outlive the verbs. Counters are read while their owners count on.
struct VerbLinks {
  Bridge& bridge;
  Core& core;
  const Settings& settings;
  const Listeners& listeners;
  const SegmentStore& segments;
  const port::Steering& steering;
  StatusFacts facts;  ///< what hardly changes
  Time started;
};

/// Thread: admin.
class Verbs {
 public:
  static constexpr std::size_t kMaxQuestions = 8;    ///< at a time; more are refused with EBUSY
  static constexpr std::size_t kMaxDumps = 4;        ///< under way in control
  static constexpr std::size_t kMaxRows = 1u << 17;  ///< of one dump

  using RowsTaker = std::function<void(std::span<const control::ConnRecord>, bool truncated)>;

  using TextTaker = std::function<void(std::string)>;

  explicit Verbs(VerbLinks links) : links_(std::move(links)) {}

  /// Counts a message of a router that was not looked at, for too many came.
  void count_icmp_over_limit() { ++icmp_over_limit_; }
  /// Of the sockets, ever.
  void set_icmp_dropped(std::uint64_t count) { icmp_dropped_ = count; }

  void ask(Clients& clients, Client& client, const shm::Admin& message);
  /// A dump for the engine itself.
  void dump(bool time_wait, RowsTaker done);
  /// The counters in Prometheus' text for the engine itself; "" when too much is asked already.
  void exposition(TextTaker done);
  /// Answers what has been collected.
  void poll(Clients& clients);
  bool waiting() const { return !questions_.empty(); }
  /// The device has another name.
  void on_renamed(const std::string& name) { links_.facts.dev = name; }

 private:
  struct Question {
    ClientId client = kNoClient;
    std::uint64_t tag = 0;
    shm::AdminVerb verb = shm::AdminVerb::kStatus;
    bool time_wait = false;
    bool exposition = false;  ///< stats as Prometheus' text instead of JSON
    std::unique_ptr<control::Dump> dump;
    std::unique_ptr<PortSnapshot> snapshot;
    RowsTaker done;
    TextTaker text_done;
    bool asked = false;  ///< of control; until then it waits for its turn
  };

  bool full() const;
  void take_snapshot(Question& question);
  void start_dumps();
  void start_dump(Question& question);
  bool collected(const Question& question) const;
  std::string text_of(const Question& question, const Clients& clients) const;
  std::string conns_text(const Question& question, const Clients& clients) const;
  std::string status_text(const Question& question, const Clients& clients) const;
  std::string stats_text(const Question& question, const Clients& clients) const;
  void answer(Clients& clients, Client& client, const Question& question);
  void refuse(Clients& clients, Client& client, std::uint64_t tag, int error);

  std::uint64_t icmp_over_limit_ = 0, icmp_dropped_ = 0;
  VerbLinks links_;
  std::list<Question> questions_;
};

}  // namespace toe::engine

#endif  // TOE_ENGINE_VERBS_H_
