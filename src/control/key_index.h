// 4-tuple -> record number, for records that keep their own keys. Chained, keyed hash, fixed size.
#ifndef TOE_CONTROL_KEY_INDEX_H_
#define TOE_CONTROL_KEY_INDEX_H_

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "base/check.h"
#include "control/index_list.h"
#include "flow/key.h"
#include "flow/table.h"

namespace toe::control {

/// Record numbers are 0 to `records` - 1. Never allocates after construction.
class KeyIndex {
 public:
  KeyIndex(std::uint32_t records, flow::HashKey secret)
      : secret_(secret), heads_(std::bit_ceil(records | 1u), kNil), nexts_(records, kNil) {}

  /// kNil when absent. `key_of` maps a record number to its key.
  template <typename KeyOf>
  std::uint32_t find(const flow::FlowKey& key, KeyOf key_of) const {
    for (std::uint32_t i = heads_[bucket(key)]; i != kNil; i = nexts_[i]) {
      if (key_of(i) == key) return i;
    }
    return kNil;
  }

  /// REQUIRES: neither the key nor the record is present.
  void insert(const flow::FlowKey& key, std::uint32_t record) {
    std::uint32_t& head = heads_[bucket(key)];
    nexts_[record] = head;
    head = record;
  }

  /// REQUIRES: `record` was inserted with `key`.
  void erase(const flow::FlowKey& key, std::uint32_t record) {
    std::uint32_t* at = &heads_[bucket(key)];
    while (*at != record) {
      TOE_CHECK(*at != kNil);
      at = &nexts_[*at];
    }
    *at = nexts_[record];
  }

  /// Looks at every bucket: for tests and a clean exit.
  bool empty() const {
    return std::all_of(heads_.begin(), heads_.end(),
                       [](std::uint32_t head) { return head == kNil; });
  }

 private:
  std::uint32_t bucket(const flow::FlowKey& key) const {
    return static_cast<std::uint32_t>(flow::hash_of(key, secret_)) &
           static_cast<std::uint32_t>(heads_.size() - 1);
  }

  flow::HashKey secret_;
  std::vector<std::uint32_t> heads_;
  std::vector<std::uint32_t> nexts_;
};

}  // namespace toe::control

#endif  // TOE_CONTROL_KEY_INDEX_H_
