// A small explicit-state checker: every interleaving of a few threads under the x86-TSO memory
// model (each thread has a FIFO of stores that reach memory later; loads see the own FIFO first;
// read-modify-write and fences wait until it is empty).
//
// A program is a list of instructions over shared words and private registers. explore() visits
// every reachable state and reports a deadlock (a thread waits for ever) or a failed assertion.
#ifndef TOE_TESTS_MODEL_TSO_H_
#define TOE_TESTS_MODEL_TSO_H_

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <unordered_set>
#include <vector>

namespace toe::model {

using Word = std::uint8_t;
inline constexpr int kWords = 12;     ///< shared words
inline constexpr int kRegisters = 6;  ///< per thread
inline constexpr int kThreads = 3;
inline constexpr int kBuffered = 6;  ///< stores one thread may have in flight

enum class Op : std::uint8_t {
  kStore,      ///< word[a] = reg[b]
  kLoad,       ///< reg[b] = word[a]
  kFence,      ///< waits until the own stores have reached memory
  kFetchOr,    ///< reg[b] = word[a]; word[a] |= c, as one step
  kFetchAnd,   ///< reg[b] = word[a]; word[a] &= ~c, as one step
  kFetchAdd,   ///< reg[b] = word[a]; word[a] += c, as one step (also a doorbell's write)
  kCas,        ///< if word[a] == reg[b] then word[a] += c, as one step
  kMayEnd,     ///< goes on, or ends the thread here (it is killed)
  kWaitDrain,  ///< system call: sleeps until word[a] != 0, then sets it to 0
  kSet,        ///< reg[a] = c
  kAdd,        ///< reg[a] += c
  kMove,       ///< reg[a] = reg[b]
  kIfEqual,    ///< if reg[a] == reg[b] go to c
  kIfZero,     ///< if reg[a] == 0 go to c
  kIfEven,     ///< if reg[a] is even go to c
  kGoto,       ///< go to c
  kAssertNot,  ///< word[a] in memory must not be c
  kEnd,
};

struct Instruction {
  Op op;
  std::uint8_t a = 0;
  std::uint8_t b = 0;
  std::uint8_t c = 0;
};

using Program = std::vector<Instruction>;

struct Outcome {
  bool deadlock = false;
  bool assertion_failed = false;
  std::uint64_t states = 0;
  bool good() const { return !deadlock && !assertion_failed; }
};

class Checker {
 public:
  /// `atomic_stores`: no store buffers (sequential consistency), to tell the two apart.
  explicit Checker(std::vector<Program> threads, bool atomic_stores = false)
      : programs_(std::move(threads)), sequential_(atomic_stores) {}

  Outcome explore() {
    std::deque<State> open;
    std::unordered_set<std::string> seen;
    open.push_back(State{});
    seen.insert(open.back().key());
    Outcome outcome;
    while (!open.empty() && outcome.good()) {
      const State state = open.front();
      open.pop_front();
      ++outcome.states;
      std::vector<State> next;
      bool finished = true;
      for (std::size_t t = 0; t < programs_.size(); ++t) {
        finished = finished && programs_[t][state.threads[t].pc].op == Op::kEnd;
        flush(state, t, next);
        if (!step(state, t, next)) outcome.assertion_failed = true;
      }
      if (next.empty() && !finished) outcome.deadlock = true;
      for (State& successor : next) {
        if (seen.insert(successor.key()).second) open.push_back(successor);
      }
    }
    return outcome;
  }

 private:
  struct Pending {
    Word word = 0;
    Word value = 0;
  };
  struct Thread {
    std::uint8_t pc = 0;
    std::uint8_t stores = 0;
    std::array<Word, kRegisters> reg{};
    std::array<Pending, kBuffered> buffer{};
  };
  struct State {
    std::array<Word, kWords> memory{};
    std::array<Thread, kThreads> threads{};
    std::string key() const {
      return std::string(reinterpret_cast<const char*>(this), sizeof(State));
    }
  };

  static void flush(const State& state, std::size_t t, std::vector<State>& next) {
    if (state.threads[t].stores == 0) return;
    State after = state;
    Thread& thread = after.threads[t];
    after.memory[thread.buffer[0].word] = thread.buffer[0].value;
    for (std::size_t i = 1; i < kBuffered; ++i) thread.buffer[i - 1] = thread.buffer[i];
    thread.buffer[kBuffered - 1] = {};
    --thread.stores;
    next.push_back(after);
  }

  static Word load(const State& state, const Thread& thread, Word word) {
    for (int i = thread.stores - 1; i >= 0; --i) {
      const Pending& store = thread.buffer[static_cast<std::size_t>(i)];
      if (store.word == word) return store.value;
    }
    return state.memory[word];
  }

  static void modify(const Instruction& at, Word& memory, Word& reg) {
    if (at.op == Op::kCas) {
      if (memory == reg) memory = static_cast<Word>(memory + at.c);
      return;
    }
    reg = memory;
    if (at.op == Op::kFetchOr) memory = static_cast<Word>(memory | at.c);
    if (at.op == Op::kFetchAnd) memory = static_cast<Word>(memory & ~at.c);
    if (at.op == Op::kFetchAdd) memory = static_cast<Word>(memory + at.c);
  }

  // Executes one instruction of thread t if it can run. False: an assertion failed.
  bool step(const State& state, std::size_t t, std::vector<State>& next) const {
    const Thread& before = state.threads[t];
    const Instruction& at = programs_[t][before.pc];
    State after = state;
    Thread& thread = after.threads[t];
    Word& memory = after.memory[at.a < kWords ? at.a : 0];
    const bool drained = before.stores == 0;
    ++thread.pc;
    switch (at.op) {
      case Op::kEnd:
        return true;
      case Op::kStore:
        if (sequential_) {
          memory = thread.reg[at.b];
        } else if (before.stores == kBuffered) {
          return true;
        } else {
          thread.buffer[thread.stores++] = {at.a, thread.reg[at.b]};
        }
        break;
      case Op::kLoad:
        thread.reg[at.b] = load(state, before, at.a);
        break;
      case Op::kFence:
        if (!drained) return true;
        break;
      case Op::kFetchOr:
      case Op::kFetchAnd:
      case Op::kFetchAdd:
      case Op::kCas:
        if (!drained) return true;
        modify(at, memory, thread.reg[at.b]);
        break;
      case Op::kMayEnd:
        next.push_back(state);
        next.back().threads[t].pc = static_cast<std::uint8_t>(programs_[t].size() - 1);
        break;
      case Op::kWaitDrain:
        if (!drained || memory == 0) return true;
        memory = 0;
        break;
      case Op::kSet:
        thread.reg[at.a] = at.c;
        break;
      case Op::kAdd:
        thread.reg[at.a] = static_cast<Word>(thread.reg[at.a] + at.c);
        break;
      case Op::kMove:
        thread.reg[at.a] = thread.reg[at.b];
        break;
      case Op::kIfEqual:
        if (thread.reg[at.a] == thread.reg[at.b]) thread.pc = at.c;
        break;
      case Op::kIfZero:
        if (thread.reg[at.a] == 0) thread.pc = at.c;
        break;
      case Op::kIfEven:
        if (thread.reg[at.a] % 2 == 0) thread.pc = at.c;
        break;
      case Op::kGoto:
        thread.pc = at.c;
        break;
      case Op::kAssertNot:
        if (state.memory[at.a] == at.c) return false;
        break;
    }
    next.push_back(after);
    return true;
  }

  std::vector<Program> programs_;
  bool sequential_;
};

/// Builds a Program with named places to jump to.
class Assembler {
 public:
  Assembler& add(Op op, int a = 0, int b = 0, int c = 0) {
    program_.push_back({op, static_cast<std::uint8_t>(a), static_cast<std::uint8_t>(b),
                        static_cast<std::uint8_t>(c)});
    return *this;
  }
  /// A jump to `place`, which may be named later.
  Assembler& jump(Op op, const std::string& place, int a = 0, int b = 0) {
    fixes_.push_back({program_.size(), place});
    return add(op, a, b);
  }
  Assembler& place(const std::string& name) {
    places_.push_back({program_.size(), name});
    return *this;
  }
  Program build() {
    for (const auto& fix : fixes_) {
      for (const auto& place : places_) {
        if (place.name == fix.name) program_[fix.at].c = static_cast<std::uint8_t>(place.at);
      }
    }
    return program_;
  }

 private:
  struct Mark {
    std::size_t at;
    std::string name;
  };
  Program program_;
  std::vector<Mark> fixes_;
  std::vector<Mark> places_;
};

}  // namespace toe::model

#endif  // TOE_TESTS_MODEL_TSO_H_
