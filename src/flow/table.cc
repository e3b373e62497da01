#include "flow/table.h"

#include <bit>

#include "base/check.h"

namespace toe::flow {
namespace {

struct SipState {
  std::uint64_t v0, v1, v2, v3;

  void round() {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }
  void word(std::uint64_t m) {
    v3 ^= m;
    round();
    v0 ^= m;
  }
};

/// Where word(8) of a v4-mapped address holds the IPv4 address.
constexpr std::uint64_t kV4Bytes = 0xffffffff00000000u;

std::uint32_t slots_for(std::uint32_t max_flows) { return std::bit_ceil(max_flows * 2); }

}  // namespace

std::uint64_t hash_of(const FlowKey& key, const HashKey& secret) {
  SipState s{secret.k0 ^ 0x736f6d6570736575u, secret.k1 ^ 0x646f72616e646f6du,
             secret.k0 ^ 0x6c7967656e657261u, secret.k1 ^ 0x7465646279746573u};
  const bool v4 = key.local.is_v4() && key.remote.is_v4();
  if (v4) {
    s.word((key.local.word(8) & kV4Bytes) | key.remote.word(8) >> 32);
  } else {
    s.word(key.local.word(0));
    s.word(key.local.word(8));
    s.word(key.remote.word(0));
    s.word(key.remote.word(8));
  }
  // The length keeps the two forms of input apart.
  s.word((std::uint64_t{v4 ? 12u : 36u} << 56) | (std::uint64_t{key.local_port} << 16) |
         key.remote_port);
  s.v2 ^= 0xff;
  s.round();
  s.round();
  s.round();
  return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

FlowTable::FlowTable(std::uint32_t max_flows, HashKey secret)
    : secret_(secret),
      max_flows_(max_flows),
      mask_(slots_for(max_flows) - 1),
      slots_(std::make_unique<Slot[]>(std::size_t{mask_} + 1)) {}

FlowId FlowTable::find(const FlowKey& key) const {
  const std::uint64_t hash = hash_of(key, secret_);
  const auto tag = static_cast<std::uint32_t>(hash);
  for (std::uint32_t i = home(hash);; i = (i + 1) & mask_) {
    const Slot& slot = slots_[i];
    if (slot.id == kNoFlow) return kNoFlow;
    if (slot.tag == tag && slot.key == key) return slot.id;
  }
}

bool FlowTable::insert(const FlowKey& key, FlowId id) {
  TOE_DCHECK(id != kNoFlow);
  if (size_ == max_flows_) return false;
  const std::uint64_t hash = hash_of(key, secret_);
  const auto tag = static_cast<std::uint32_t>(hash);
  std::uint32_t i = home(hash);
  for (; slots_[i].id != kNoFlow; i = (i + 1) & mask_) {
    if (slots_[i].tag == tag && slots_[i].key == key) return false;
  }
  slots_[i] = {key, id, tag};
  ++size_;
  return true;
}

bool FlowTable::erase(const FlowKey& key) {
  const std::uint64_t hash = hash_of(key, secret_);
  std::uint32_t hole = home(hash);
  while (slots_[hole].id != kNoFlow && !(slots_[hole].key == key)) hole = (hole + 1) & mask_;
  if (slots_[hole].id == kNoFlow) return false;
  // Close the gap: move back every later entry of the run whose home lies at or before the hole.
  for (std::uint32_t i = (hole + 1) & mask_; slots_[i].id != kNoFlow; i = (i + 1) & mask_) {
    const std::uint32_t from_home = (i - home(hash_of(slots_[i].key, secret_))) & mask_;
    if (from_home >= ((i - hole) & mask_)) {
      slots_[hole] = slots_[i];
      hole = i;
    }
  }
  slots_[hole] = Slot{};
  --size_;
  return true;
}

void FlowTable::prefetch(const FlowKey& key) const {
  __builtin_prefetch(&slots_[home(hash_of(key, secret_))]);
}

}  // namespace toe::flow
