// The fuzzer's bytes as a stream of small decisions.
#ifndef TOE_FUZZ_INPUT_H_
#define TOE_FUZZ_INPUT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace toe::fuzz {

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

  bool empty() const { return size_ == 0; }
  /// The next bytes as a number; zero bytes follow the end.
  template <typename T>
  T take() {
    T value{};
    const std::size_t n = std::min(sizeof value, size_);
    std::memcpy(&value, data_, n);
    data_ += n;
    size_ -= n;
    return value;
  }
  std::uint32_t below(std::uint32_t n) { return take<std::uint8_t>() % n; }
  /// Numbers near borders, or any.
  std::uint64_t number(std::uint64_t reference) {
    const std::uint8_t how = take<std::uint8_t>();
    const auto small = static_cast<std::uint64_t>(std::int64_t{take<std::int8_t>()});
    switch (how % 6) {
      case 0:
        return small;
      case 1:
        return reference + small;
      case 2:
        return reference + 16384 + small;
      case 3:
        return (std::uint64_t{1} << (how / 6 % 64)) + small;
      case 4:
        return take<std::uint64_t>();
      default:
        return reference + take<std::uint16_t>();
    }
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

}  // namespace toe::fuzz

#endif  // TOE_FUZZ_INPUT_H_
