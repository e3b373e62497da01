// The engine's side of control socket and segments, without a network: a connect to a port that
// some client listens on joins the two lines directly. One thread, real sockets, real memfds.
//
// It plays by docs/formats/segment.md (hints, doorbells, ring switches, sleep) so that libtoe's
// side can be tested alone, also from other processes (fake_engine_main.cc).
#ifndef TOE_TESTS_MODEL_FAKE_ENGINE_H_
#define TOE_TESTS_MODEL_FAKE_ENGINE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "shm/control_format.h"
#include "shm/hint_queue.h"
#include "shm/ring_copy.h"
#include "shm/segment_view.h"
#include "shm/sleep.h"

namespace toe::test {

class FakeEngine {
 public:
  /// Listens on `path` and serves until destroyed (as a killed engine: no goodbye).
  explicit FakeEngine(const std::string& path);
  ~FakeEngine();

  std::uint64_t connects() const { return connects_; }
  std::uint64_t accepts() const { return accepts_; }
  std::uint64_t rx_switches() const { return rx_switches_; }
  std::uint64_t tx_switches() const { return tx_switches_; }
  std::uint64_t doorbells() const { return doorbells_; }
  /// Reads each send ring only once in so many rounds: a slow network.
  std::atomic<int> slowness{1};

 private:
  struct Segment;
  struct Flow;
  struct ContextState {
    int client = -1;  ///< 0-based, -1 free
    shm::HintWriter to_app;
    shm::HintReader from_app;
    int bell = -1;
    std::uint32_t rung = 0;
  };
  struct Segment {
    std::uint32_t id = 0;
    int fd = -1;
    shm::SegmentView view;
    std::array<ContextState, shm::kContexts> contexts;
    std::uint32_t next_page = 0;
    std::vector<std::uint32_t> free_lines;
    std::multimap<std::uint32_t, std::uint32_t> free_rings;  ///< log2 -> page
    std::map<std::uint32_t, std::unique_ptr<Flow>> flows;
  };
  /// One line in use.
  struct Flow {
    Segment* segment = nullptr;
    std::uint32_t line = 0;
    std::uint64_t cookie = 0;
    std::set<int> holders;
    bool listener = false;
    std::uint16_t port = 0;
    // connection
    Flow* peer = nullptr;
    std::uint64_t moved = 0;     ///< bytes taken from the send ring
    std::uint64_t received = 0;  ///< bytes written to the receive ring
    std::uint32_t rx_log2 = 14;
    std::uint64_t rx_switch = 0;
    shm::RingRef rx_old, rx_now;
    shm::RingRef tx_now, tx_next;
    std::uint32_t tx_taken = 0;
    std::uint64_t tx_switch = 0;
    bool fin_sent = false;
    bool fin_received = false;
    bool closed = false;  ///< no holder left
    std::uint64_t accept_tail = 0;
    shm::SocketOptions options{};  ///< listener: for what it accepts
  };
  struct Client {
    int fd = -1;
    bool alive = true;
    std::map<std::uint32_t, int> bells;  ///< doorbell number -> write end
    std::set<Segment*> segments;
  };

  void run();
  bool serve_once();
  void accept_client();
  bool serve_client(int index);
  void drop_client(int index);
  void on_message(int index, const std::vector<std::uint8_t>& bytes, const std::vector<int>& fds);
  void on_listen(int index, const shm::Listen& ask, int fd);
  void on_connect(int index, const shm::Connect& ask, int fd);
  void on_context(int index, const shm::ContextMessage& ask);
  void on_show(int index, const shm::Show& ask, const std::vector<int>& fds);
  void reply(int index, void* message, std::uint32_t length, std::vector<int> fds = {});
  void refuse(int index, std::uint64_t tag, shm::KernelReason reason);
  void give_segment(int index, Segment& segment);
  Segment& new_segment();
  Flow& new_flow(Segment& segment);
  shm::RingRef new_ring(Segment& segment, std::uint32_t log2);
  void free_ring(Segment& segment, shm::RingRef ring);
  void end_flow(Flow& flow);
  bool take_hints();
  bool pump_all();
  bool pump(Flow& from);
  bool grow_rx(Flow& flow);
  void offer_tx(Flow& flow);
  void finish(Flow& flow);
  void release(Flow& flow, int client, bool reset);
  void reset_flow(Flow& flow, int error);
  void hint(Flow& flow, bool rx, bool tx);
  bool anything_posted();
  std::uint64_t seen_cookie(Flow& flow) const;

  int listen_fd_ = -1;
  int page_fd_ = -1;
  shm::EnginePage* page_ = nullptr;
  int bell_[2] = {-1, -1};
  std::vector<Client> clients_;
  std::vector<std::unique_ptr<Segment>> segments_;
  std::uint32_t next_bell_ = 1;
  std::uint16_t next_port_ = 40000;
  int round_ = 0;
  std::atomic<std::uint64_t> connects_{0}, accepts_{0}, rx_switches_{0}, tx_switches_{0};
  std::atomic<std::uint64_t> doorbells_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace toe::test

#endif  // TOE_TESTS_MODEL_FAKE_ENGINE_H_
