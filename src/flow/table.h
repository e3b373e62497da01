// Flow table: 4-tuple -> FlowId, keyed hash, fixed size, open addressing.
//
// Writers: the data path, on commands of control. Readers: pre (and control in its own thread only
// between bursts). Never allocates after construction.
#ifndef TOE_FLOW_TABLE_H_
#define TOE_FLOW_TABLE_H_

#include <cstdint>
#include <memory>

#include "base/types.h"
#include "flow/key.h"

namespace toe::flow {

/// Secret of a keyed hash; drawn at start so that nobody can aim at one bucket.
struct HashKey {
  std::uint64_t k0 = 0;
  std::uint64_t k1 = 0;
};

/// SipHash-1-3 of the key: of its 12 significant bytes when both addresses are IPv4.
std::uint64_t hash_of(const FlowKey& key, const HashKey& secret);

class FlowTable {
 public:
  /// Room for `max_flows` entries at a load of at most one half.
  FlowTable(std::uint32_t max_flows, HashKey secret);

  /// kNoFlow when absent.
  FlowId find(const FlowKey& key) const;
  /// False when the key is present already or the table is full.
  bool insert(const FlowKey& key, FlowId id);
  /// False when absent.
  bool erase(const FlowKey& key);
  /// Brings the bucket of `key` into the cache.
  void prefetch(const FlowKey& key) const;

  std::uint32_t size() const { return size_; }
  std::uint32_t capacity() const { return max_flows_; }

 private:
  struct Slot {
    FlowKey key;
    FlowId id = kNoFlow;
    std::uint32_t tag = 0;  ///< hash bits; spares most key comparisons
  };
  std::uint32_t home(std::uint64_t hash) const {
    return static_cast<std::uint32_t>(hash >> 32) & mask_;
  }

  HashKey secret_;
  std::uint32_t max_flows_;
  std::uint32_t mask_;
  std::uint32_t size_ = 0;
  std::unique_ptr<Slot[]> slots_;
};

}  // namespace toe::flow

#endif  // TOE_FLOW_TABLE_H_
