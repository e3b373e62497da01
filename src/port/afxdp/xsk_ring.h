// The four rings between an AF_XDP socket and the kernel.
//
// Each ring is a single-producer, single-consumer queue in memory shared with the kernel: the
// producer publishes slots by a release store of its index, the consumer hands them back by a
// release store of its own. Indices run freely and wrap at 2^32.
#ifndef TOE_PORT_AFXDP_XSK_RING_H_
#define TOE_PORT_AFXDP_XSK_RING_H_

#include <linux/if_xdp.h>
#include <sys/mman.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace toe::port {

/// One end's view of a mapped ring. Move-only; unmaps when destroyed.
template <typename T>
class XskRing {
 public:
  XskRing() = default;
  ~XskRing() {
    if (memory_ != nullptr) ::munmap(memory_, bytes_);
  }
  XskRing(XskRing&& other) noexcept { swap(other); }
  XskRing& operator=(XskRing&& other) noexcept {
    swap(other);
    return *this;
  }

  /// Maps `slots` slots of the socket's ring at `page_offset`. False: errno says why.
  /// REQUIRES: slots is a power of two.
  bool map(int socket_fd, const xdp_ring_offset& layout, std::uint32_t slots, off_t page_offset) {
    bytes_ = layout.desc + slots * sizeof(T);
    void* memory = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                          socket_fd, page_offset);
    if (memory == MAP_FAILED) return false;
    memory_ = static_cast<std::uint8_t*>(memory);
    producer_ = word_at(layout.producer);
    consumer_ = word_at(layout.consumer);
    flags_ = word_at(layout.flags);
    slots_ = reinterpret_cast<T*>(memory_ + layout.desc);
    size_ = slots;
    return true;
  }

  std::uint32_t size() const { return size_; }

  /// The kernel asks for a system call before it looks at the ring again.
  bool needs_wakeup() const {
    const std::atomic_ref<std::uint32_t> flags(*flags_);
    return (flags.load(std::memory_order_relaxed) & XDP_RING_NEED_WAKEUP) != 0;
  }

  // Producer side. `own_` is the producer index, `other_` a copy of the consumer's.

  /// Free slots, looked up afresh only if fewer than `wanted` are known.
  std::uint32_t free_slots(std::uint32_t wanted) {
    std::uint32_t free = size_ - (own_ - other_);
    if (free < wanted) {
      other_ = load(consumer_);
      free = size_ - (own_ - other_);
    }
    return free;
  }
  /// The i-th free slot. REQUIRES: i < free_slots().
  T& slot(std::uint32_t i) { return slots_[(own_ + i) & (size_ - 1)]; }
  /// Publishes the first `count` free slots.
  void publish(std::uint32_t count) {
    own_ += count;
    store(producer_, own_);
  }
  /// Published slots the kernel has not taken yet.
  std::uint32_t pending() {
    other_ = load(consumer_);
    return own_ - other_;
  }

  // Consumer side. `own_` is the consumer index, `other_` a copy of the producer's.

  /// Filled slots, looked up afresh only if fewer than `wanted` are known.
  std::uint32_t filled_slots(std::uint32_t wanted) {
    if (other_ - own_ < wanted) {
      other_ = load(producer_);
    }
    return other_ - own_;
  }
  /// The i-th filled slot. REQUIRES: i < filled_slots().
  const T& filled(std::uint32_t i) const { return slots_[(own_ + i) & (size_ - 1)]; }
  /// Hands the first `count` filled slots back.
  void consume(std::uint32_t count) {
    own_ += count;
    store(consumer_, own_);
  }

 private:
  // Acquire pairs with the kernel's release: what it wrote into the slots is visible.
  static std::uint32_t load(std::uint32_t* word) {
    const std::atomic_ref<std::uint32_t> shared(*word);
    return shared.load(std::memory_order_acquire);
  }
  static void store(std::uint32_t* word, std::uint32_t value) {
    const std::atomic_ref<std::uint32_t> shared(*word);
    shared.store(value, std::memory_order_release);
  }
  void swap(XskRing& other) {
    std::swap(memory_, other.memory_);
    std::swap(bytes_, other.bytes_);
    std::swap(producer_, other.producer_);
    std::swap(consumer_, other.consumer_);
    std::swap(flags_, other.flags_);
    std::swap(slots_, other.slots_);
    std::swap(size_, other.size_);
    std::swap(own_, other.own_);
    std::swap(other_, other.other_);
  }
  std::uint32_t* word_at(std::uint64_t offset) const {
    return reinterpret_cast<std::uint32_t*>(memory_ + offset);
  }

  std::uint8_t* memory_ = nullptr;
  std::size_t bytes_ = 0;
  std::uint32_t* producer_ = nullptr;
  std::uint32_t* consumer_ = nullptr;
  std::uint32_t* flags_ = nullptr;
  T* slots_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint32_t own_ = 0;
  std::uint32_t other_ = 0;
};

}  // namespace toe::port

#endif  // TOE_PORT_AFXDP_XSK_RING_H_
