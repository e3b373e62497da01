// The wait protocols of docs/formats/segment.md, step by step as src/shm/sleep.h and
// src/shm/hint_queue.h carry them out, over every interleaving with store buffers. Each protocol is
// also run with one step left out, which must be found: the checker and the step both matter.
#include <gtest/gtest.h>

#include "tso.h"

namespace toe::model {
namespace {

enum Shared : int {
  kData,       // published items
  kEpoch,      // the sleeper's epoch
  kBell,       // bytes in the doorbell pipe
  kRung,       // last rung epoch, shared by the producers
  kHinted,     // bit of the context in Line::hinted_*
  kTail,       // queue
  kInterest,   // bit of the context in Line::rx_interest
  kWriting,    // tx_writing
  kOffered,    // tx_offered
  kOldRing,    // ghost: which write copied into the ring before the offer
  kTakenBack,  // ghost: the engine has taken that ring back
  kData2,      // a second producer's items
};

struct Steps {
  bool producer_fence = true;
  bool sleeper_fence = true;
  bool recheck = true;
  bool rung_memory = true;
};

// registers
constexpr int r0 = 0, r1 = 1, r2 = 2, r3 = 3, r4 = 4, r5 = 5;

// Rings the doorbell as Ringer::must_ring says. Falls through when done.
void ring_if_asleep(Assembler& code, const Steps& steps, const std::string& name) {
  if (steps.producer_fence) code.add(Op::kFence);
  code.add(Op::kLoad, kEpoch, r1).jump(Op::kIfEven, name, r1);
  if (steps.rung_memory) {
    code.add(Op::kLoad, kRung, r2).jump(Op::kIfEqual, name, r1, r2);
    code.add(Op::kStore, kRung, r1);
  }
  code.add(Op::kFetchAdd, kBell, r3, 1);
  code.place(name);
}

Program producer(int word, int items, const Steps& steps) {
  Assembler code;
  for (int i = 1; i <= items; ++i) {
    code.add(Op::kSet, r0, 0, i).add(Op::kStore, word, r0);
    ring_if_asleep(code, steps, "awake" + std::to_string(i));
  }
  return code.add(Op::kEnd).build();
}

// Consumes what is new in `words`, sleeps when nothing is; ends once it has seen `items` in each.
Program sleeper(const std::vector<int>& words, int items, const Steps& steps) {
  const int seen[] = {r3, r4};  // consumed so far, per word
  Assembler code;
  code.add(Op::kSet, r5, 0, items).place("look");
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string next = "next" + std::to_string(i);
    code.add(Op::kLoad, words[i], r0).jump(Op::kIfEqual, next, r0, seen[i]);
    code.add(Op::kMove, seen[i], r0).jump(Op::kGoto, "look").place(next);
  }
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string all = "all" + std::to_string(i);
    code.jump(Op::kIfEqual, all, seen[i], r5).jump(Op::kGoto, "sleep").place(all);
  }
  code.add(Op::kEnd);
  code.place("sleep").add(Op::kLoad, kEpoch, r1).add(Op::kAdd, r1, 0, 1);
  code.add(Op::kStore, kEpoch, r1);
  if (steps.sleeper_fence) code.add(Op::kFence);
  for (std::size_t i = 0; i < words.size() && steps.recheck; ++i) {
    const std::string same = "same" + std::to_string(i);
    code.add(Op::kLoad, words[i], r0).jump(Op::kIfEqual, same, r0, seen[i]);
    code.jump(Op::kGoto, "wake").place(same);
  }
  code.add(Op::kWaitDrain, kBell);
  code.place("wake").add(Op::kLoad, kEpoch, r1).add(Op::kAdd, r1, 0, 1);
  code.add(Op::kStore, kEpoch, r1);
  return code.jump(Op::kGoto, "look").build();
}

Outcome run_sleep(const Steps& steps, bool sequential = false) {
  return Checker({producer(kData, 2, steps), sleeper({kData}, 2, steps)}, sequential).explore();
}

TEST(SleepProtocol, LosesNoWakeUp) {
  const Outcome outcome = run_sleep({});
  EXPECT_TRUE(outcome.good());
  EXPECT_GT(outcome.states, 200u);
}

TEST(SleepProtocol, LosesNoWakeUpWithTwoProducers) {
  const Outcome outcome =
      Checker({producer(kData, 1, {}), producer(kData2, 1, {}), sleeper({kData, kData2}, 1, {})})
          .explore();
  EXPECT_TRUE(outcome.good());
  EXPECT_GT(outcome.states, 1000u);
}

// Without the memory of the last ring nothing is lost either; it only saves system calls.
TEST(SleepProtocol, RungMemoryIsNotNeededForSafety) {
  Steps steps;
  steps.rung_memory = false;
  EXPECT_TRUE(run_sleep(steps).good());
}

TEST(SleepProtocol, NeedsTheProducersFence) {
  Steps steps;
  steps.producer_fence = false;
  EXPECT_TRUE(run_sleep(steps).deadlock);
  EXPECT_FALSE(run_sleep(steps, true).deadlock) << "only store buffers make it go wrong";
}

TEST(SleepProtocol, NeedsTheSleepersFence) {
  Steps steps;
  steps.sleeper_fence = false;
  EXPECT_TRUE(run_sleep(steps).deadlock);
  EXPECT_FALSE(run_sleep(steps, true).deadlock);
}

TEST(SleepProtocol, NeedsTheSecondLook) {
  Steps steps;
  steps.recheck = false;
  EXPECT_TRUE(run_sleep(steps).deadlock);
  EXPECT_TRUE(run_sleep(steps, true).deadlock) << "with any memory model";
}

// --- hints: one outstanding per line, cleared before the look ---

struct HintSteps {
  bool atomic_mark = true;  // fetch_or, not load and store
  bool clear_before_look = true;
};

// Publishes `items` and hints after each.
Program hinter(int items, const HintSteps& steps) {
  Assembler code;
  for (int i = 1; i <= items; ++i) {
    const std::string done = "done" + std::to_string(i);
    const std::string mark = "mark" + std::to_string(i);
    code.add(Op::kSet, r0, 0, i).add(Op::kStore, kData, r0);
    if (steps.atomic_mark) {
      code.add(Op::kFetchOr, kHinted, r1, 1).jump(Op::kIfZero, mark, r1);
    } else {
      code.add(Op::kLoad, kHinted, r1).jump(Op::kIfZero, mark, r1);
    }
    code.jump(Op::kGoto, done).place(mark);
    if (!steps.atomic_mark) code.add(Op::kSet, r4, 0, 1).add(Op::kStore, kHinted, r4);
    code.add(Op::kAdd, r5, 0, 1).add(Op::kStore, kTail, r5);  // the one writer of the queue
    ring_if_asleep(code, {}, done);
  }
  return code.add(Op::kEnd).build();
}

// Takes hints, looks at the line, sleeps when the queue is empty. Ends when it has seen all items.
Program reader(int items, const HintSteps& steps) {
  Assembler code;
  // r5 = items; r4 = hints taken
  code.add(Op::kSet, r5, 0, items);
  code.place("loop").add(Op::kLoad, kTail, r0).jump(Op::kIfEqual, "empty", r0, r4);
  code.add(Op::kAdd, r4, 0, 1);
  if (steps.clear_before_look) code.add(Op::kFetchAnd, kHinted, r1, 1);
  code.add(Op::kLoad, kData, r2);
  if (!steps.clear_before_look) code.add(Op::kFetchAnd, kHinted, r1, 1);
  code.jump(Op::kIfEqual, "all", r2, r5).jump(Op::kGoto, "loop");
  code.place("empty").add(Op::kLoad, kEpoch, r1).add(Op::kAdd, r1, 0, 1);
  code.add(Op::kStore, kEpoch, r1).add(Op::kFence);
  code.add(Op::kLoad, kTail, r0).jump(Op::kIfEqual, "still", r0, r4).jump(Op::kGoto, "wake");
  code.place("still").add(Op::kWaitDrain, kBell);
  code.place("wake").add(Op::kLoad, kEpoch, r1).add(Op::kAdd, r1, 0, 1).add(Op::kStore, kEpoch, r1);
  code.jump(Op::kGoto, "loop").place("all").add(Op::kEnd);
  return code.build();
}

Outcome run_hints(const HintSteps& steps) {
  return Checker({hinter(3, steps), reader(3, steps)}).explore();
}

TEST(HintProtocol, LosesNoChange) { EXPECT_TRUE(run_hints({}).good()); }

TEST(HintProtocol, NeedsTheClearBeforeTheLook) {
  HintSteps steps;
  steps.clear_before_look = false;
  EXPECT_TRUE(run_hints(steps).deadlock);
}

TEST(HintProtocol, NeedsTheAtomicMark) {
  HintSteps steps;
  steps.atomic_mark = false;
  EXPECT_TRUE(run_hints(steps).deadlock);
}

// --- interest: asked for, then looked; published, then asked ---

Outcome run_interest(bool engine_fence) {
  Assembler engine;
  engine.add(Op::kSet, r0, 0, 1).add(Op::kStore, kData, r0);
  if (engine_fence) engine.add(Op::kFence);
  engine.add(Op::kLoad, kInterest, r1).jump(Op::kIfZero, "nobody", r1);
  engine.add(Op::kFetchAdd, kBell, r2, 1).place("nobody").add(Op::kEnd);
  Assembler program;
  program.add(Op::kFetchOr, kInterest, r1, 1);
  program.add(Op::kLoad, kData, r0).jump(Op::kIfZero, "wait", r0).add(Op::kEnd);
  program.place("wait").add(Op::kWaitDrain, kBell).add(Op::kEnd);
  return Checker({engine.build(), program.build()}).explore();
}

TEST(InterestProtocol, LosesNoHint) { EXPECT_TRUE(run_interest(true).good()); }
TEST(InterestProtocol, NeedsTheEnginesFence) { EXPECT_TRUE(run_interest(false).deadlock); }

// --- idle rings: the engine takes a send ring back only while no writer can use it ---

struct RenewSteps {
  bool writer_fence = true;
  bool engine_fence = true;
  bool look_at_writing = true;
  bool look_at_tail = true;
};

// Writes twice: takes up what is offered, else copies into the old ring.
Program ring_writer(const RenewSteps& steps) {
  Assembler code;
  for (int i = 1; i <= 2; ++i) {
    const std::string fresh = "fresh" + std::to_string(i);
    code.add(Op::kSet, r0, 0, 1).add(Op::kStore, kWriting, r0);
    if (steps.writer_fence) code.add(Op::kFence);
    code.add(Op::kLoad, kOffered, r1).jump(Op::kIfEqual, fresh, r1, r0);
    code.add(Op::kAssertNot, kTakenBack, 0, 1);  // before, in the midst of and after the copy
    code.add(Op::kSet, r2, 0, i).add(Op::kStore, kOldRing, r2);
    code.add(Op::kAssertNot, kTakenBack, 0, 1);
    code.place(fresh).add(Op::kSet, r2, 0, i).add(Op::kStore, kData, r2);
    code.add(Op::kStore, kWriting, r5);
  }
  return code.add(Op::kEnd).build();
}

// Offers a ring and takes the old one back if it is out of use: no writer, and no byte in it.
Program ring_renewer(const RenewSteps& steps) {
  Assembler code;
  code.add(Op::kSet, r0, 0, 1).add(Op::kStore, kOffered, r0);
  if (steps.engine_fence) code.add(Op::kFence);
  if (steps.look_at_writing) {
    code.add(Op::kLoad, kWriting, r1).jump(Op::kIfZero, "nobody", r1).jump(Op::kGoto, "leave");
    code.place("nobody");
  }
  if (steps.look_at_tail) {
    code.add(Op::kLoad, kData, r1).jump(Op::kIfZero, "empty", r1).jump(Op::kGoto, "leave");
    code.place("empty");
  }
  code.add(Op::kFetchAdd, kTakenBack, r2, 1);
  code.add(Op::kAssertNot, kOldRing, 0, 1).add(Op::kAssertNot, kOldRing, 0, 2);
  return code.place("leave").add(Op::kEnd).build();
}

Outcome run_renew(const RenewSteps& steps, bool sequential = false) {
  return Checker({ring_writer(steps), ring_renewer(steps)}, sequential).explore();
}

TEST(RenewProtocol, NeverTakesARingUnderAWriter) {
  const Outcome outcome = run_renew({});
  EXPECT_TRUE(outcome.good());
  EXPECT_GT(outcome.states, 200u);
}

TEST(RenewProtocol, NeedsBothFences) {
  RenewSteps steps;
  steps.writer_fence = false;
  EXPECT_TRUE(run_renew(steps).assertion_failed);
  EXPECT_TRUE(run_renew(steps, true).good()) << "only store buffers make it go wrong";
  steps = {};
  steps.engine_fence = false;
  EXPECT_TRUE(run_renew(steps).assertion_failed);
  EXPECT_TRUE(run_renew(steps, true).good());
}

TEST(RenewProtocol, NeedsTheLookAtTheWriter) {
  RenewSteps steps;
  steps.look_at_writing = false;
  EXPECT_TRUE(run_renew(steps, true).assertion_failed);
}

TEST(RenewProtocol, NeedsTheLookAtTheTail) {
  RenewSteps steps;
  steps.look_at_tail = false;
  EXPECT_TRUE(run_renew(steps, true).assertion_failed);
}

// --- accepting: two processes take from one accept ring, and one may be killed at any instant ---

constexpr int kHead = kData, kFirst = kEpoch, kSecond = kBell;  // rx_head, claims of two entries

// Takes until rx_head has reached 2. `claim_first`: as libtoe does, the other order loses entries.
Program taker(bool claim_first, bool mortal) {
  Assembler code;
  const auto die = [&] {
    if (mortal) code.add(Op::kMayEnd);
  };
  code.add(Op::kSet, r4, 0, 1).add(Op::kSet, r5, 0, 2).place("look");
  die();
  code.add(Op::kLoad, kHead, r0).jump(Op::kIfEqual, "done", r0, r5);
  code.jump(Op::kIfEqual, "second", r0, r4);
  for (const int entry : {kFirst, kSecond}) {
    if (entry == kSecond) code.place("second");
    if (claim_first) {
      code.add(Op::kFetchOr, entry, r1, 1);  // 0: it is mine
      die();
      code.add(Op::kCas, kHead, r0, 1);
    } else {
      code.add(Op::kCas, kHead, r0, 1);
      die();
      code.add(Op::kFetchOr, entry, r1, 1);
    }
    code.jump(Op::kGoto, "look");
  }
  code.place("done");
  if (!mortal) code.add(Op::kAssertNot, kFirst, 0, 0).add(Op::kAssertNot, kSecond, 0, 0);
  return code.add(Op::kEnd).build();
}

TEST(AcceptProtocol, LosesNoConnectionWhenATakerIsKilled) {
  const Outcome outcome = Checker({taker(true, true), taker(true, false)}).explore();
  EXPECT_TRUE(outcome.good());
  EXPECT_GT(outcome.states, 50u);
}

TEST(AcceptProtocol, NeedsTheClaimBeforeTheHeadMoves) {
  EXPECT_TRUE(Checker({taker(false, true), taker(false, false)}, true).explore().assertion_failed);
}

}  // namespace
}  // namespace toe::model
