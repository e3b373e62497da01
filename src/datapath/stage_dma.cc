#include "datapath/stage_dma.h"

#include <algorithm>
#include <cstring>

#include "wire/checksum.h"
#include "wire/sack_headers.h"

namespace toe::datapath {

namespace {

/// The bytes of a frame in several chunks, in order.
class Parts {
 public:
  Parts(const FramePool& frames, const Frame& frame) : frames_(frames), part_(frame) {}

  /// Steps over the next bytes, at most `most`, that lie in one chunk, and returns them.
  /// REQUIRES: the frame has more.
  std::span<std::uint8_t> take(std::size_t most) {
    while (done_ == part_.length) {
      const bool more = frames_.advance(part_);
      TOE_CHECK(more);
      done_ = 0;
    }
    const std::size_t n = std::min<std::size_t>(most, part_.length - done_);
    const std::span<std::uint8_t> bytes = frames_.bytes(part_).subspan(done_, n);
    done_ += n;
    return bytes;
  }

 private:
  const FramePool& frames_;
  Frame part_;
  std::size_t done_ = 0;  ///< of part_
};

[[gnu::cold, gnu::noinline]] void receive_parts(const Work& work, const Copy& copy,
                                                const FramePool& frames, std::uint8_t* base) {
  Parts source(frames, work.frame);
  for (std::size_t skip = work.out.copy_offset; skip > 0;) skip -= source.take(skip).size();
  for (std::uint32_t i = 0; i < copy.count; ++i) {
    std::uint8_t* target = base + copy.piece[i].offset;
    for (std::size_t left = copy.piece[i].length; left > 0;) {
      const auto bytes = source.take(left);
      std::memcpy(target, bytes.data(), bytes.size());
      target += bytes.size();
      left -= bytes.size();
    }
  }
}

inline std::size_t header_bytes(const Copy& copy) {
  return copy.header->length + wire::sack_option_bytes(copy.sack.count);
}

inline void write_headers(const Copy& copy, const wire::SegmentFields& fields,
                          std::uint8_t* start) {
  if (copy.sack.count == 0) {
    wire::write_headers(*copy.header, fields, start);
  } else {
    wire::write_sack_headers(*copy.header, fields, {copy.sack.block.data(), copy.sack.count},
                             start);
  }
}

[[gnu::cold, gnu::noinline]] void transmit_parts(Work& work, const Copy& copy,
                                                 const FramePool& frames,
                                                 const std::uint8_t* base) {
  const auto headers = static_cast<std::uint16_t>(header_bytes(copy));
  Frame payload = work.frame;
  payload.offset = static_cast<std::uint16_t>(payload.offset + headers);
  Parts target(frames, payload);
  wire::SegmentFields fields = copy.fields;
  std::uint32_t done = 0;
  for (std::uint32_t i = 0; i < copy.count; ++i) {
    const std::uint8_t* source = base + copy.piece[i].offset;
    for (std::size_t left = copy.piece[i].length; left > 0;) {
      const auto room = target.take(left);
      const std::uint32_t sum = wire::copy_and_checksum(room.data(), source, room.size());
      fields.payload.sum = wire::checksum_append(fields.payload.sum, done, sum);
      source += room.size();
      left -= room.size();
      done += static_cast<std::uint32_t>(room.size());
    }
  }
  write_headers(copy, fields, frames.chunk(work.frame.chunk) + work.frame.offset);
  work.frame.length = static_cast<std::uint16_t>(work.frame.length + headers);
}

}  // namespace

void receive_payload(const Work& work, const Copy& copy, const FramePool& frames,
                     std::uint8_t* base) {
  if (work.frame.next != kNoChunk) [[unlikely]] {
    return receive_parts(work, copy, frames, base);
  }
  const std::uint8_t* source = frames.bytes(work.frame).data() + work.out.copy_offset;
  for (std::uint32_t i = 0; i < copy.count; ++i) {
    std::memcpy(base + copy.piece[i].offset, source, copy.piece[i].length);
    source += copy.piece[i].length;
  }
}

void transmit_payload(Work& work, const Copy& copy, const FramePool& frames,
                      const std::uint8_t* base) {
  if (work.frame.next != kNoChunk) [[unlikely]] {
    return transmit_parts(work, copy, frames, base);
  }
  std::uint8_t* start = frames.chunk(work.frame.chunk) + work.frame.offset;
  const std::size_t headers = header_bytes(copy);
  std::uint8_t* target = start + headers;
  wire::SegmentFields fields = copy.fields;
  std::uint32_t done = 0;
  for (std::uint32_t i = 0; i < copy.count; ++i) {
    const std::uint32_t sum =
        wire::copy_and_checksum(target + done, base + copy.piece[i].offset, copy.piece[i].length);
    fields.payload.sum = wire::checksum_append(fields.payload.sum, done, sum);
    done += copy.piece[i].length;
  }
  write_headers(copy, fields, start);
  work.frame.length = static_cast<std::uint16_t>(headers + done);
}

}  // namespace toe::datapath
