#include "shm/kernel_reason.h"

#include <set>
#include <string>

#include <gtest/gtest.h>

namespace toe::shm {
namespace {

TEST(KernelReason, EveryReasonHasAWordOfItsOwn) {
  std::set<std::string> words;
  const auto count = static_cast<std::uint32_t>(KernelReason::kCount);
  for (std::uint32_t i = 0; i < count; ++i) {
    words.insert(kernel_reason_word(static_cast<KernelReason>(i)));
  }
  EXPECT_EQ(words.size(), count);
  EXPECT_EQ(words.count("unknown"), 0u);
}

TEST(KernelReason, EveryWordHasAMeaning) {
  const auto count = static_cast<std::uint32_t>(KernelReason::kCount);
  for (std::uint32_t i = 1; i < count; ++i) {
    EXPECT_STRNE(kernel_reason_meaning(kernel_reason_word(static_cast<KernelReason>(i))), "");
  }
  EXPECT_STREQ(kernel_reason_meaning("of-tomorrow"), "");
}

TEST(KernelReason, WordsAreThoseOfTheFormat) {
  EXPECT_STREQ(kernel_reason_word(KernelReason::kNoEngine), "no-engine");
  EXPECT_STREQ(kernel_reason_word(KernelReason::kOtherUser), "other-user");
  EXPECT_STREQ(kernel_reason_word(KernelReason::kInternal), "internal");
  EXPECT_STREQ(kernel_reason_word(static_cast<KernelReason>(99)), "unknown");
}

}  // namespace
}  // namespace toe::shm
