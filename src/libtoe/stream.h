// stdio on sockets. A stream of libc reads and writes its descriptor inside libc, where no library
// can step between; for our sockets libtoe makes streams whose reads and writes come back here.
//
// Thread: any.
#ifndef TOE_LIBTOE_STREAM_H_
#define TOE_LIBTOE_STREAM_H_

#include <cstddef>
#include <cstdio>

namespace toe::libtoe {

/// fdopen(3) for a descriptor of ours. It stays right whatever the descriptor names later. Null
/// with errno.
FILE* open_stream(int fd, const char* mode);
/// The descriptor below a stream of open_stream(), -1 for others.
int stream_fd(FILE* stream);
/// Writes all of it, to our socket or the kernel's. False with errno.
bool write_all(int fd, const void* bytes, std::size_t length);
/// Descriptor 0, 1 or 2 names a connection now: the standard stream above it follows, with what
/// was printed and not yet flushed.
void follow_standard_stream(int fd);
/// Fork child: whoever held the lock does not exist here.
void reset_streams();

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_STREAM_H_
