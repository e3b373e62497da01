// Checks for programmer mistakes. Never used on input from wire, shared memory or sockets:
// those are refused and counted.
#ifndef TOE_BASE_CHECK_H_
#define TOE_BASE_CHECK_H_

namespace toe {

/// Prints the failed condition to stderr and aborts.
[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace toe

/// Always on: set-up and control side.
#define TOE_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::toe::check_failed(#condition, __FILE__, __LINE__))

/// On in debug, simulation and fuzz builds; off in the release data path.
#ifdef NDEBUG
#define TOE_DCHECK(condition) static_cast<void>(0)
#else
#define TOE_DCHECK(condition) TOE_CHECK(condition)
#endif

#endif  // TOE_BASE_CHECK_H_
