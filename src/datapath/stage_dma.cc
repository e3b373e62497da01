#include "datapath/stage_dma.h"

#include <cstring>

#include "wire/checksum.h"
#include "wire/sack_headers.h"

namespace toe::datapath {

void receive_payload(const Work& work, const Copy& copy, const FramePool& frames,
                     std::uint8_t* base) {
  const std::uint8_t* source = frames.bytes(work.frame).data() + work.out.copy_offset;
  for (std::uint32_t i = 0; i < copy.count; ++i) {
    std::memcpy(base + copy.piece[i].offset, source, copy.piece[i].length);
    source += copy.piece[i].length;
  }
}

void transmit_payload(Work& work, const Copy& copy, const FramePool& frames,
                      const std::uint8_t* base) {
  std::uint8_t* start = frames.chunk(work.frame.chunk) + work.frame.offset;
  const std::size_t headers = copy.header->length + wire::sack_option_bytes(copy.sack.count);
  std::uint8_t* target = start + headers;
  wire::SegmentFields fields = copy.fields;
  std::uint32_t done = 0;
  for (std::uint32_t i = 0; i < copy.count; ++i) {
    const std::uint32_t sum =
        wire::copy_and_checksum(target + done, base + copy.piece[i].offset, copy.piece[i].length);
    fields.payload.sum = wire::checksum_append(fields.payload.sum, done, sum);
    done += copy.piece[i].length;
  }
  if (copy.sack.count == 0) {
    wire::write_headers(*copy.header, fields, start);
  } else {
    wire::write_sack_headers(*copy.header, fields, {copy.sack.block.data(), copy.sack.count},
                             start);
  }
  work.frame.length = static_cast<std::uint16_t>(headers + done);
}

}  // namespace toe::datapath
