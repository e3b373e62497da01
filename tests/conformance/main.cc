// toe_conformance [--linux] [--engine] [-v] SCRIPT...: runs packet scripts on both subjects, or on
// those named. Exit 0: every script passed; 1: one failed; 2: usage; 77: no Linux subject here.
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "conformance/runner.h"

namespace toe::conformance {
namespace {

constexpr int kMaxVoidRuns = 8;

enum class Outcome { kPassed, kFailed, kVoid, kSkipped };

Outcome run_once(const Script& script, const std::string& name, bool verbose, std::string& said) {
  const bool is_linux = name == "linux";
  std::string why;
  const auto subject =
      is_linux ? make_linux(script.linux_settings, why) : make_engine(script.engine_settings, why);
  if (subject == nullptr) {
    said = why;
    return is_linux ? Outcome::kSkipped : Outcome::kFailed;
  }
  Runner runner(script, *subject, name);
  try {
    runner.run();
  } catch (const Failure& failure) {
    said = script.path + " on " + name + ": " + failure.what() + "\n" + runner.trace();
    return subject->disturbed() ? Outcome::kVoid : Outcome::kFailed;
  }
  if (verbose) said = script.path + " on " + name + ":\n" + runner.trace();
  return Outcome::kPassed;
}

Outcome run(const std::string& path, const std::string& name, bool verbose) {
  std::string said;
  Outcome outcome = Outcome::kFailed;
  try {
    const Script script = read_script(path);
    outcome = Outcome::kVoid;
    for (int i = 0; i < kMaxVoidRuns && outcome == Outcome::kVoid; ++i) {
      said.clear();
      outcome = run_once(script, name, verbose, said);
    }
  } catch (const std::exception& failure) {
    said = path + ": " + failure.what();
    outcome = Outcome::kFailed;
  }
  if (outcome == Outcome::kVoid) {
    said += path + " on " + name + ": the machine was too busy for a verdict";
    outcome = Outcome::kSkipped;
  }
  if (!said.empty()) std::printf("%s\n", said.c_str());
  return outcome;
}

int main_of(int count, char** arguments) {
  std::vector<std::string> subjects, scripts;
  bool verbose = false;
  for (int i = 1; i < count; ++i) {
    const std::string word = arguments[i];
    if (word == "--linux" || word == "--engine") {
      subjects.push_back(word.substr(2));
    } else if (word == "-v") {
      verbose = true;
    } else {
      scripts.push_back(word);
    }
  }
  if (scripts.empty()) {
    std::fprintf(stderr, "usage: toe_conformance [--linux] [--engine] [-v] SCRIPT...\n");
    return 2;
  }
  if (subjects.empty()) subjects = {"engine", "linux"};
  int failed = 0, skipped = 0;
  for (const std::string& script : scripts) {
    for (const std::string& subject : subjects) {
      const Outcome outcome = run(script, subject, verbose);
      failed += outcome == Outcome::kFailed;
      skipped += outcome == Outcome::kSkipped;
    }
  }
  return failed != 0 ? 1 : skipped != 0 ? 77 : 0;
}

}  // namespace
}  // namespace toe::conformance

int main(int count, char** arguments) { return toe::conformance::main_of(count, arguments); }
