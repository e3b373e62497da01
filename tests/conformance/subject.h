// A TCP under test: a wire to it, and the calls of a program that uses it.
//
// Times are nanoseconds of the subject's clock, which begins anywhere. Calls never block; what
// fails gives a negative errno.
#ifndef TOE_CONFORMANCE_SUBJECT_H_
#define TOE_CONFORMANCE_SUBJECT_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace toe::conformance {

inline constexpr std::uint16_t kServicePort = 80;   ///< the subject listens here
inline constexpr std::uint16_t kRemotePort = 7777;  ///< the subject connects to this one

struct Packet {
  std::vector<std::uint8_t> bytes;  ///< from the IP header on
  std::int64_t at_ns = 0;           ///< when it left
};

class Subject {
 public:
  virtual ~Subject() = default;
  /// True when time passes only in next() and pass(), so that it can be judged exactly.
  virtual bool exact() const = 0;
  /// The process itself was late: what came of it is no verdict on the subject.
  virtual bool disturbed() const { return false; }
  virtual std::int64_t now() = 0;

  virtual void inject(std::span<const std::uint8_t> packet) = 0;
  /// The next packet that leaves, at the latest at `until`. False: none did.
  virtual bool next(Packet& out, std::int64_t until) = 0;
  /// Lets time pass; what leaves meanwhile is kept for next().
  virtual void pass(std::int64_t until) = 0;

  virtual int listen(int backlog) = 0;
  virtual int accept() = 0;
  virtual int connect() = 0;
  virtual int connect_result() = 0;  ///< -EINPROGRESS while nothing is known
  /// `flags`: MSG_MORE, MSG_OOB.
  virtual ssize_t write(std::span<const std::uint8_t> bytes, int flags) = 0;
  virtual ssize_t read(std::span<std::uint8_t> into, int flags) = 0;
  virtual int shutdown(int how) = 0;
  virtual int close() = 0;
  virtual int close_listener() = 0;
  /// An option of the connection, or of what will become one. Names as in docs/conformance.md.
  virtual int set(const std::string& name, int value) = 0;
  virtual int error() = 0;   ///< SO_ERROR
  virtual short poll() = 0;  ///< POLLIN and its kin
};

/// What the head of a script asks of its subject.
using Settings = std::map<std::string, std::string>;

/// Null with `why` when there is none here.
std::unique_ptr<Subject> make_linux(const Settings& sysctls, std::string& why);
std::unique_ptr<Subject> make_engine(const Settings& settings, std::string& why);

}  // namespace toe::conformance

#endif  // TOE_CONFORMANCE_SUBJECT_H_
