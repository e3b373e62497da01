// Runs one script on one subject: the peer at the other end of the wire and the program in one.
#ifndef TOE_CONFORMANCE_RUNNER_H_
#define TOE_CONFORMANCE_RUNNER_H_

#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "conformance/script.h"
#include "harness/pattern.h"

namespace toe::conformance {

class Runner {
 public:
  Runner(const Script& script, Subject& subject, const std::string& name);

  /// Throws Failure at the first thing that is not as the script says.
  void run();
  /// Every segment so far, one line each.
  const std::string& trace() const { return trace_; }

 private:
  using Words = std::vector<std::string>;

  void execute(const Words& words);
  void call(const Words& words);

  // The wire.
  void inject(const SegmentText& text);
  void inject_one(const SegmentText& text, std::uint32_t begin, std::uint32_t end);
  Options options_to_send(const SegmentText& text);
  std::uint32_t echo_of(const OptionText& o);
  std::vector<std::uint8_t> payload(const SegmentText& text, std::uint32_t begin,
                                    std::uint32_t end) const;
  void expect(const SegmentText& text);
  void expect_one(const SegmentText& text);
  void quiet(long ms);
  /// The next segment of this connection, at the latest at `until`.
  bool receive(Segment& out, std::int64_t until);
  void learn(const Segment& s);
  void check_payload(const Segment& s) const;
  bool tolerated(const Segment& s);
  /// "" when the segment is what the text says, else what is not.
  std::string mismatch(const SegmentText& text, const Segment& s) const;
  std::string options_mismatch(const OptionText& text, const Options& o) const;
  void check_time(const SegmentText& text, const Segment& s) const;
  std::string print(const Segment& s, bool out) const;
  void note(const Segment& s, bool out);

  // The program.
  void establish(const Words& words);
  void write(const Words& words);
  void read(const Words& words);
  void read_urgent(const Words& words);
  void check_read(const Words& words, long result, const std::vector<std::uint8_t>& bytes);
  void poll(const Words& words);
  int shut(const Words& words);

  const Script& script_;
  Subject& subject_;
  const std::string name_;
  test::Pattern out_{1}, in_{2};
  std::string trace_;
  std::int64_t begin_ns_ = 0;
  std::int64_t mark_ns_ = 0;  ///< what came before: `at` counts from here
  // The connection at the other end of the wire.
  std::uint16_t subject_port_ = kServicePort;
  std::uint16_t peer_port_ = 40000;
  std::uint32_t peer_isn_ = 0xfffff000;  ///< wraps soon
  std::uint32_t subject_isn_ = 0;
  bool known_isn_ = false;
  std::uint8_t subject_scale_ = 0;
  bool scale_sent_ = false;
  std::uint32_t edge_ = 0;  ///< right edge of the subject's window, as `seq`
  std::uint16_t window_ = 65535;
  std::uint32_t stamp_ = 0;  ///< TSval sent last
  std::uint32_t heard_ = 0;  ///< TSval heard last
  bool stamps_sent_ = false, stamps_heard_ = false;
  std::map<std::string, std::uint32_t> labels_;
  std::vector<SegmentText> tolerated_;
  std::uint64_t written_ = 0, read_ = 0;
};

}  // namespace toe::conformance

#endif  // TOE_CONFORMANCE_RUNNER_H_
