// SACK as a receiver (RFC 2018, RFC 2883): what is stored, reported, and when.
#include <gtest/gtest.h>

#include "datapath/test_stage.h"

namespace toe::datapath {
namespace {

struct SackScript : Script {
  SackScript() { s.sack_on = true; }
};

TEST(SackReceive, GapsAreReportedMostRecentFirst) {
  SackScript t;
  t.recv({.seq = 1000, .length = 100});
  t.recv({.seq = 3000, .length = 100});
  t.recv({.seq = 2000, .length = 100});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a0 1000-1100", "A 0+0 a0 3000-3100 1000-1100",
                                 "A 0+0 a0 2000-2100 3000-3100 1000-1100"}));
}

TEST(SackReceive, ThreeBlocksBesideTimestampsFourWithout) {
  SackScript t;
  for (int i = 1; i <= 5; ++i) t.recv({.seq = i * 1000, .length = 100});
  EXPECT_EQ(t.take_sent().back(), "A 0+0 a0 5000-5100 4000-4100 3000-3100 2000-2100");
  SackScript with;
  with.s.ts_on = true;
  for (int i = 1; i <= 5; ++i) with.recv({.seq = i * 1000, .length = 100});
  EXPECT_EQ(with.take_sent().back(), "A 0+0 a0 5000-5100 4000-4100 3000-3100");
}

TEST(SackReceive, APartlyFilledGapIsAnsweredWithWhatIsLeft) {
  SackScript t;
  t.recv({.seq = 1000, .length = 100});
  t.recv({.seq = 3000, .length = 100});
  t.take_sent();
  t.recv({.seq = 0, .length = 1000});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a1100 3000-3100"}));
}

TEST(SackReceive, WithoutTheOptionNothingIsReported) {
  Script t;
  t.recv({.seq = 1000, .length = 100});
  t.recv({.seq = 1000, .length = 100});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a0", "A 0+0 a0"}));
}

TEST(SackReceive, AReportNeverWaitsForDataNorRidesOnIt) {
  SackScript t;
  t.hold_back = true;
  t.recv({.seq = 1000, .length = 100});
  t.write(1000);
  t.transmit();
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a0 1000-1100", "PA 0+1000 a0"}));
}

TEST(Dsack, OldBytesAreReportedInFront) {
  SackScript t;
  t.recv({.length = 1000});
  t.recv({.seq = 3000, .length = 100});
  t.take_sent();
  t.recv({.seq = 200, .length = 300});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a1000 200-500 3000-3100"}));
  EXPECT_EQ(t.counters.dsacks_out.value(), 1u);
  t.recv({.seq = 1000, .length = 10});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a1010 3000-3100"})) << "said once";
}

TEST(Dsack, OldBytesOutsideTheWindowToo) {
  SackScript t;
  for (int i = 0; i < 3; ++i) t.recv({.length = 1000});
  t.take_sent();
  t.recv({.seq = 0, .length = 1000});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a3000 0-1000"}));
}

TEST(Dsack, TheOldPartOfASegmentWithNewData) {
  SackScript t;
  t.recv({.length = 1000});
  t.take_sent();
  t.recv({.seq = 600, .length = 1000});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a1600 600-1000"}));
}

TEST(Dsack, ARepeatedOutOfOrderSegmentIsFollowedByItsRange) {
  SackScript t;
  t.recv({.seq = 1000, .length = 100});
  t.recv({.seq = 1100, .length = 100});
  t.recv({.seq = 5000, .length = 100});
  t.take_sent();
  t.recv({.seq = 1100, .length = 100});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a0 1100-1200 1000-1200 5000-5100"}));
  EXPECT_EQ(t.last.copy_length, 0) << "the first copy stands";
}

TEST(Dsack, InOrderDataThatReachesStoredBytesReportsThem) {
  SackScript t;
  t.recv({.seq = 1000, .length = 500});
  t.take_sent();
  t.recv({.seq = 0, .length = 1200});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a1500 1000-1200"}));
}

TEST(Dsack, NeighboursAreMergedUntilTheAckLeaves) {
  SackScript t;
  for (int i = 0; i < 4; ++i) t.recv({.length = 1000});
  t.take_sent();
  t.hold_back = true;
  t.recv({.seq = 0, .length = 1000});
  t.recv({.seq = 1000, .length = 1000});
  t.recv({.seq = 3000, .length = 1000});  // apart: forgotten
  t.transmit();
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a4000 0-2000"}));
}

TEST(Dsack, AKeepAliveIsNoDuplicate) {
  SackScript t;
  t.recv({.length = 100});
  t.take_sent();
  t.recv({.seq = 99});
  for (const std::string& sent : t.take_sent()) EXPECT_EQ(sent, "A 0+0 a100");
}

// --- The records that are borrowed ---

TEST(ReceivePool, IsBorrowedFromWhileThereIsAGap) {
  SackScript t;
  EXPECT_EQ(t.pools.ranges.in_use(), 0u);
  t.recv({.seq = 1000, .length = 100});
  EXPECT_EQ(t.pools.ranges.in_use(), 1u);
  t.recv({.seq = 0, .length = 1000});
  EXPECT_EQ(t.pools.ranges.in_use(), 0u);
}

TEST(ReceivePool, GetsItBackWhenTheFlowEnds) {
  SackScript t;
  t.recv({.seq = 1000, .length = 100});
  t.recv({.flags = wire::kRst});
  EXPECT_TRUE(t.closed);
  EXPECT_EQ(t.pools.ranges.in_use(), 0u);
}

TEST(ReceivePool, PeersThatLeaveGapsForEverKeepNobodyFromHavingOne) {
  SackScript t;
  int others[4] = {};
  for (int& other : others) t.pools.ranges.take(&other);
  t.recv({.seq = 1000, .length = 100});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a0 1000-1100"}));
  EXPECT_EQ(t.counters.ranges_forgotten.value(), 1u);
  t.recv({.length = 1000});
  EXPECT_EQ(t.s.rcv_nxt, 1100u);
}

TEST(ReceivePool, WhatWasForgottenForAnotherComesAgain) {
  SackScript t;
  t.recv({.seq = 1000, .length = 100});
  t.take_sent();
  int others[8] = {};
  while (t.pools.ranges.holds(t.s.ranges, &t.s)) {
    for (int& other : others) t.pools.ranges.take(&other);
  }
  t.recv({.length = 1000});  // the gap closes, what lay behind is not there any more
  EXPECT_EQ(t.s.rcv_nxt, 1000u);
  EXPECT_EQ(t.s.ranges, 0u);
  t.recv({.seq = 1000, .length = 100});
  EXPECT_EQ(t.s.rcv_nxt, 1100u);
  EXPECT_EQ(t.pools.ranges.in_use(), 4u) << "the record of another is not given back";
}

TEST(ReceivePool, TheRecordOfAnotherIsLeftAloneWhenTheFlowEnds) {
  SackScript t;
  t.recv({.seq = 1000, .length = 100});
  int others[8] = {};
  while (t.pools.ranges.holds(t.s.ranges, &t.s)) {
    for (int& other : others) t.pools.ranges.take(&other);
  }
  t.recv({.flags = wire::kRst});
  EXPECT_TRUE(t.closed);
  EXPECT_EQ(t.pools.ranges.in_use(), 4u);
}

}  // namespace
}  // namespace toe::datapath
