#include "datapath/stage_post.h"

#include <algorithm>

namespace toe::datapath {
namespace {

void add_ring(shm::RingRef ring, std::uint64_t pos, std::uint32_t length, Copy& copy) {
  while (length > 0) {
    const auto at = static_cast<std::uint32_t>(pos & (ring.bytes() - 1));
    const std::uint32_t n = std::min(length, ring.bytes() - at);
    TOE_DCHECK(copy.count < kMaxPieces);
    copy.piece[copy.count++] = {ring.offset() + at, n};
    pos += n;
    length -= n;
  }
}

}  // namespace

void split(const shm::RingRef (&ring)[2], std::uint64_t switch_pos, std::uint64_t pos, Copy& copy,
           std::uint32_t length) {
  if (pos < switch_pos) {
    const auto before =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(length, switch_pos - pos));
    add_ring(ring[0], pos, before, copy);
    pos += before;
    length -= before;
  }
  add_ring(ring[1], pos, length, copy);
}

void StagePost::receive(const Work& work, flow::PostSlice& post, Copy& copy) const {
  ++post.segs_in;
  copy.segment = post.segment;
  copy.count = 0;
  if (work.out.publish) post.bytes_received = work.out.rx_tail;
  if (work.out.publish) post.bytes_acked = work.out.tx_una;
  if (work.out.copy_length == 0) return;
  ++post.data_segs_in;
  split(post.rx_ring, post.rx_switch, work.out.copy_pos, copy, work.out.copy_length);
}

void StagePost::transmit(const Work& work, flow::PostSlice& post, Copy& copy) const {
  const Outcome& out = work.out;
  ++post.segs_out;
  counters_.frames_out.add();
  if (out.payload_length != 0) {
    ++post.data_segs_out;
    post.bytes_sent += out.payload_length;
  }
  if (out.retransmission) {
    ++post.retrans;
    post.bytes_retrans += out.payload_length;
  }
  copy.segment = post.segment;
  copy.count = 0;
  copy.header = &post.header;
  copy.fields.seq = post.iss + 1 + static_cast<std::uint32_t>(out.seq);
  copy.fields.ack = post.irs + 1 + static_cast<std::uint32_t>(out.ack);
  copy.fields.tsval = out.tsval;
  copy.fields.tsecr = out.tsecr;
  copy.fields.window = out.window;
  copy.fields.urgent = out.urgent;
  copy.fields.flags = out.tcp_flags;
  copy.fields.ecn = out.ecn;
  copy.fields.payload.length = out.payload_length;
  copy.sack.count = out.sack.count;
  for (std::uint8_t i = 0; i < out.sack.count; ++i) {
    const wire::SackBlock& block = out.sack.block[i];
    copy.sack.block[i] = {post.irs + 1 + block.start, post.irs + 1 + block.end};
  }
  if (out.payload_length != 0) {
    split(post.tx_ring, post.tx_switch, out.seq, copy, out.payload_length);
  }
}

}  // namespace toe::datapath
