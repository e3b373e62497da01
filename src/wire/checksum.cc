#include "wire/checksum.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "wire/bytes.h"

namespace toe::wire {
namespace {

/// Sums the words of [src, src + n), and copies them to `dst` if kCopy. 32-bit words go into
/// 64-bit sums, so no carry is lost for any n below 2^32 words.
template <bool kCopy>
class Summer {
 public:
  static std::uint32_t run(std::uint8_t* dst, const std::uint8_t* src, std::size_t n) {
    std::uint64_t sum = 0;
    if (n >= kBlock) {
      const std::size_t whole = n & ~(kBlock - 1);
      sum = blocks(dst, src, whole);
      src += whole;
      if (kCopy) dst += whole;
      n -= whole;
    }
    return checksum_fold(sum + tail(dst, src, n));
  }

 private:
  static constexpr std::size_t kBlock = 32;

#ifdef __SSE2__
  static std::uint64_t blocks(std::uint8_t* dst, const std::uint8_t* src, std::size_t n) {
    const __m128i zero = _mm_setzero_si128();
    __m128i low = zero;
    __m128i high = zero;
    for (std::size_t i = 0; i < n; i += kBlock) {
      const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(src + i));
      const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(src + i + 16));
      if (kCopy) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + i), a);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + i + 16), b);
      }
      low = _mm_add_epi64(low,
                          _mm_add_epi64(_mm_unpacklo_epi32(a, zero), _mm_unpackhi_epi32(a, zero)));
      high = _mm_add_epi64(high,
                           _mm_add_epi64(_mm_unpacklo_epi32(b, zero), _mm_unpackhi_epi32(b, zero)));
    }
    std::uint64_t lanes[2];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(lanes), _mm_add_epi64(low, high));
    return lanes[0] + lanes[1];
  }
#else
  static std::uint64_t blocks(std::uint8_t* dst, const std::uint8_t* src, std::size_t n) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < n; i += 4) sum += word<std::uint32_t>(dst, src, i);
    return sum;
  }
#endif

  static std::uint64_t tail(std::uint8_t* dst, const std::uint8_t* src, std::size_t n) {
    std::uint64_t sum = 0;
    std::size_t i = 0;
    for (; i + 8 <= n; i += 8) {
      const std::uint64_t v = word<std::uint64_t>(dst, src, i);
      sum += (v & 0xffffffffu) + (v >> 32);
    }
    if ((n & 4) != 0) {
      sum += word<std::uint32_t>(dst, src, i);
      i += 4;
    }
    if ((n & 2) != 0) {
      sum += word<std::uint16_t>(dst, src, i);
      i += 2;
    }
    if ((n & 1) != 0) sum += word<std::uint8_t>(dst, src, i);
    return sum;
  }

  template <typename T>
  static std::uint64_t word(std::uint8_t* dst, const std::uint8_t* src, std::size_t i) {
    const T v = load_raw<T>(src + i);
    if (kCopy) store_raw<T>(dst + i, v);
    return v;
  }
};

}  // namespace

std::uint32_t checksum_partial(const std::uint8_t* data, std::size_t n) {
  return Summer<false>::run(nullptr, data, n);
}

std::uint32_t copy_and_checksum(std::uint8_t* dst, const std::uint8_t* src, std::size_t n) {
  return Summer<true>::run(dst, src, n);
}

}  // namespace toe::wire
