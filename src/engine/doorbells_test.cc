#include "engine/doorbells.h"

#include <fcntl.h>
#include <unistd.h>

#include <gtest/gtest.h>

namespace toe::engine {
namespace {

struct Pipe {
  Pipe() {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    read.reset(ends[0]);
    write.reset(ends[1]);
  }
  ssize_t take() {
    char bytes[64];
    return ::read(read.get(), bytes, sizeof bytes);
  }
  UniqueFd read;
  UniqueFd write;
};

TEST(Doorbells, RingsTheOneThatIsNamed) {
  BellNumbers numbers;
  Doorbells bells;
  Pipe first;
  Pipe second;
  const std::uint32_t a = numbers.take();
  const std::uint32_t b = numbers.take();
  EXPECT_NE(a, 0u);
  EXPECT_NE(a, b);
  bells.add(a, std::move(first.write));
  bells.add(b, std::move(second.write));
  const std::uint32_t ring[] = {b, b, 0, 77777};
  bells.ring(ring);
  EXPECT_EQ(first.take(), -1);
  EXPECT_EQ(second.take(), 2);
}

TEST(Doorbells, AnOldNumberRingsNothing) {
  BellNumbers numbers;
  Doorbells bells;
  Pipe first;
  Pipe second;
  const std::uint32_t old = numbers.take();
  bells.add(old, std::move(first.write));
  bells.remove(old);
  EXPECT_EQ(first.take(), 0);  // closed: end of stream
  numbers.give_back(old);
  const std::uint32_t fresh = numbers.take();
  EXPECT_NE(fresh, old);
  bells.add(fresh, std::move(second.write));
  bells.ring(std::span(&old, 1));
  EXPECT_EQ(second.take(), -1);
  bells.remove(old);
  bells.ring(std::span(&fresh, 1));
  EXPECT_EQ(second.take(), 1);
}

TEST(Doorbells, NumbersRunOut) {
  BellNumbers numbers;
  for (std::uint32_t i = 0; i < kMaxBells; ++i) ASSERT_NE(numbers.take(), 0u);
  EXPECT_EQ(numbers.take(), 0u);
}

}  // namespace
}  // namespace toe::engine
