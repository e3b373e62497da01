#include "cli/exec.h"

#include <gtest/gtest.h>

#include "cli/engine_client.h"

namespace toe::cli {
namespace {

TEST(Exec, PreloadGoesInFront) {
  EXPECT_EQ(preload_text("/a/libtoe.so", nullptr), "/a/libtoe.so");
  EXPECT_EQ(preload_text("/a/libtoe.so", ""), "/a/libtoe.so");
  EXPECT_EQ(preload_text("/a/libtoe.so", "/b.so"), "/a/libtoe.so:/b.so");
}

TEST(Exec, ExitCodesOfProgramsThatCannotBeStarted) {
  EXPECT_EQ(exec_program({.name = "", .command = {"no-such-program-anywhere"}}), 127);
  EXPECT_EQ(exec_program({.name = "", .command = {"/etc/passwd"}}), 126);
  EXPECT_EQ(exec_program({.name = "toe-test-absent", .strict = true, .command = {"true"}}), 1);
}

TEST(EngineClient, NamesAndPlaces) {
  ::setenv("FLEXTOE_RUNDIR", "/tmp/toe-test-nothing", 1);
  EXPECT_EQ(socket_path("x"), "/tmp/toe-test-nothing/x.sock");
  ::setenv("FLEXTOE_NAME", "other", 1);
  EXPECT_EQ(engine_name(""), "other");
  EXPECT_EQ(engine_name("given"), "given");
  ::unsetenv("FLEXTOE_NAME");
  EXPECT_EQ(engine_name(""), "default");
  EXPECT_EQ(ask_engine("x", shm::AdminVerb::kStatus, 0).error().text,
            "no engine named 'x' is running");
  ::unsetenv("FLEXTOE_RUNDIR");
}

}  // namespace
}  // namespace toe::cli
