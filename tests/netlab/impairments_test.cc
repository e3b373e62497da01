#include "netlab/impairments.h"

#include <string>

#include <gtest/gtest.h>

namespace toe::netlab {
namespace {

TEST(Impairments, ReadsEveryKey) {
  auto read = Impairments::parse(
      "select=data,loss=1%,burst=0.5%/20%/90%,every=100,lose=3:7-9,duplicate=0.02,reorder=3%,"
      "reorder-by=5ms,reorder-distance=4,corrupt=0.1%,delay=20ms,jitter=300us,rate=1.5Mbit,"
      "queue=64kB,mark=4%,mark-above=20");
  ASSERT_TRUE(read.ok()) << read.error().text;
  const Impairments& i = read.value();
  EXPECT_EQ(i.select, Select::kData);
  EXPECT_DOUBLE_EQ(i.loss, 0.01);
  EXPECT_DOUBLE_EQ(i.burst.enter, 0.005);
  EXPECT_DOUBLE_EQ(i.burst.leave, 0.2);
  EXPECT_DOUBLE_EQ(i.burst.loss, 0.9);
  EXPECT_EQ(i.every, 100u);
  ASSERT_EQ(i.lose.size(), 2u);
  EXPECT_EQ(i.lose[1].first, 7u);
  EXPECT_EQ(i.lose[1].last, 9u);
  EXPECT_DOUBLE_EQ(i.duplicate, 0.02);
  EXPECT_DOUBLE_EQ(i.reorder, 0.03);
  EXPECT_EQ(i.reorder_by, millis(5));
  EXPECT_EQ(i.reorder_distance, 4u);
  EXPECT_DOUBLE_EQ(i.corrupt, 0.001);
  EXPECT_EQ(i.delay, millis(20));
  EXPECT_EQ(i.jitter, micros(300));
  EXPECT_EQ(i.rate, 1'500'000u);
  EXPECT_EQ(i.queue.bytes, 64'000u);
  EXPECT_EQ(i.queue.frames, 0u);
  EXPECT_DOUBLE_EQ(i.mark, 0.04);
  EXPECT_EQ(i.mark_above.frames, 20u);
}

TEST(Impairments, ItsTextReadsAsItself) {
  for (const char* text :
       {"", "loss=0.01,delay=20000000ns",
        "select=tcp,burst=0.125/0.25/1,every=9,lose=3:7-9,duplicate=0.5,reorder=0.25,"
        "reorder-by=5000ns,reorder-distance=4,corrupt=0.5,jitter=7ns,rate=1500000bit,queue=100,"
        "mark=0.25,mark-above=64000B"}) {
    auto read = Impairments::parse(text);
    ASSERT_TRUE(read.ok()) << text;
    EXPECT_EQ(read.value().text(), text);
  }
}

TEST(Impairments, EmptyTextIsAPerfectWire) {
  auto read = Impairments::parse("");
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read.value().loss, 0);
  EXPECT_EQ(read.value().delay.ns, 0);
  EXPECT_EQ(read.value().rate, 0u);
}

TEST(Impairments, RefusesWhatItDoesNotUnderstand) {
  for (const char* text : {"los=1%",        "loss",
                           "loss=",         "loss=101%",
                           "loss=-1%",      "loss=1ms",
                           "loss=nan",      "delay=5",
                           "delay=5%",      "delay=5000s",
                           "rate=0bit",     "rate=10",
                           "queue=0",       "queue=5ms",
                           "every=0",       "every=x",
                           "lose=",         "lose=0",
                           "lose=5:4",      "lose=5-4",
                           "lose=1-2-3",    "burst=1%",
                           "burst=1%/0%",   "select=none",
                           "mark-above=10", "loss=1%,,delay=1ms",
                           "every=-3"}) {
    EXPECT_FALSE(Impairments::parse(text).ok()) << text;
  }
}

}  // namespace
}  // namespace toe::netlab
