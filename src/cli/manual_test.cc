#include "cli/manual.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "cli/verbs.h"

namespace toe::cli {
namespace {

class ManualTest : public ::testing::Test {
 protected:
  ManualTest() : app_("offload", "flextoe") {
    CLI::App* run = app_.add_subcommand("run", "serve");
    run->add_option("--cc", text_, "algorithm .of choice [cubic]")->type_name("{cubic|reno}");
    run->add_flag("--seccomp")->description("few calls");
    add_verbs(app_, choice_);
  }
  std::string page(const std::string& name) {
    for (const ManualPage& page : manual_pages(app_)) {
      if (page.name == name) return page.text;
    }
    ADD_FAILURE() << "no page " << name;
    return "";
  }

  CLI::App app_;
  Choice choice_;
  std::string text_;
};

TEST_F(ManualTest, TextIsPrintedAsItIs) {
  EXPECT_EQ(groff("--cc-route a\\b"), "\\-\\-cc\\-route a\\eb");
  EXPECT_EQ(groff(".SH no request\n'nor this.\n"), "\\&.SH no request\n\\&'nor this.\n");
}

TEST_F(ManualTest, EveryVisibleVerbHasAPage) {
  for (const CLI::App* verb : app_.get_subcommands([](const CLI::App*) { return true; })) {
    if (verb->get_group().empty()) continue;
    const std::string name = "flextoe-" + verb->get_name();
    EXPECT_NE(page("flextoe").find(groff(name)), std::string::npos) << name;
    EXPECT_NE(page(name).find(groff(verb->get_description())), std::string::npos) << name;
  }
}

TEST_F(ManualTest, EveryOptionOfHelpIsInThePage) {
  for (const CLI::App* verb : app_.get_subcommands([](const CLI::App*) { return true; })) {
    if (verb->get_group().empty()) continue;
    const std::string text = page("flextoe-" + verb->get_name());
    for (const CLI::Option* option : verb->get_options()) {
      EXPECT_NE(text.find("\\fB" + groff(option->get_name(false, true).substr(0, 2))),
                std::string::npos);
      EXPECT_NE(text.find(groff(option->get_description())), std::string::npos)
          << option->get_name();
    }
  }
  EXPECT_NE(page("flextoe-run").find(".TP\n\\fB\\-\\-cc\\fR \\fI{cubic|reno}\\fR\n"),
            std::string::npos)
      << page("flextoe-run");
  EXPECT_NE(page("flextoe-run").find(".TP\n\\fB\\-\\-seccomp\\fR\n"), std::string::npos);
}

TEST_F(ManualTest, LibraryPageTellsEveryReason) {
  const std::string text = page("libtoe");
  for (const char* word : {"own\\-address", "io\\-uring", "internal"}) {
    EXPECT_NE(text.find(word), std::string::npos) << word;
  }
}

TEST_F(ManualTest, SaysWhereItCannotWrite) { EXPECT_EQ(write_manual(app_, "/proc/nothing"), 1); }

}  // namespace
}  // namespace toe::cli
