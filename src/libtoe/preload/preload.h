// Shape of every interposed function: is the descriptor ours? Then libtoe's answer with errno set,
// else libc's. Nothing else happens in this folder.
#ifndef TOE_LIBTOE_PRELOAD_PRELOAD_H_
#define TOE_LIBTOE_PRELOAD_PRELOAD_H_

#include <cerrno>

#include "libtoe/libc.h"

#define TOE_EXPORT extern "C" __attribute__((visibility("default")))

namespace toe::libtoe {

/// A negative errno becomes errno and -1.
template <typename T>
inline T answer(T result) {
  if (result >= 0) return result;
  errno = static_cast<int>(-result);
  return -1;
}

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_PRELOAD_PRELOAD_H_
