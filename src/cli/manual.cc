#include "cli/manual.h"

#include <cstdio>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>

#include "shm/kernel_reason.h"

namespace toe::cli {
namespace {

struct Section {
  const char* title;
  const char* text;  ///< paragraphs, separated by empty lines
};

constexpr Section kExit = {"EXIT STATUS",
                           "0: good. 1: failed; one sentence on standard error says why. 2: the "
                           "command line or a setting is wrong."};
constexpr Section kEnvironment = {
    "ENVIRONMENT",
    "FLEXTOE_RUNDIR: directory of the control socket (/run/flextoe).\n\nFLEXTOE_NAME: name of the "
    "engine (default)."};
constexpr Section kFiles = {"FILES",
                            "/run/flextoe/NAME.sock: control socket of the engine "
                            "NAME.\n\n/etc/flextoe/NAME.toml: settings "
                            "of the service flextoe@NAME."};

/// What a page says beyond its options.
struct VerbText {
  const char* verb;
  int section;
  const char* usage;
  const char* description;
  std::vector<Section> more;
};

const std::vector<VerbText>& verb_texts() {
  static const std::vector<VerbText> texts = {
      {"run",
       8,
       "--dev IFACE [OPTION...]",
       "Takes the interface's TCP traffic of ports that programs under flextoe-exec(1) use, and "
       "leaves everything else to the kernel. Prints one line beginning with \"flextoe: ready\" on "
       "standard error once it serves, and ends on SIGTERM or SIGINT: first the interface goes "
       "back to the kernel, then connections are reset.\n\nEvery option may also stand in the "
       "environment, as FLEXTOE_ and its name in capitals with _ for -, and in the TOML file of "
       "--config under its own name. A flag beats the environment, the environment the file.",
       {{"PRIVILEGES",
         "CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF; CAP_IPC_LOCK unless the memlock limit covers the "
         "packet buffers. What else root has is given up after the start."},
        {"SERVICE",
         "flextoe@NAME.service runs the engine NAME with /etc/flextoe/NAME.toml. The engine tells "
         "systemd (NOTIFY_SOCKET) when it is ready, when it ends and, if a watchdog is set, that "
         "its threads live. Log lines carry their weight if standard error is the journal."},
        kExit,
        kFiles}},
      {"exec",
       1,
       "[OPTION...] -- PROGRAM [ARGUMENT...]",
       "Replaces itself by PROGRAM, with libtoe.so in front of LD_PRELOAD: TCP sockets of PROGRAM "
       "are the engine's where it can serve them, see libtoe(7). Process number, signals and exit "
       "status are PROGRAM's own.",
       {{"EXIT STATUS",
         "PROGRAM's. 127: not found. 126: not executable. 2: the engine cannot serve such a "
         "program (static, Go, musl, set-user-ID). 1: under --strict no engine answers."},
        kEnvironment}},
      {"status",
       8,
       "[OPTION...]",
       "Shows the engine, and per attached process what is offloaded and why other sockets stayed "
       "with the kernel.",
       {kExit, kEnvironment}},
      {"conns",
       8,
       "[OPTION...]",
       "Shows the engine's listeners and connections as ss(8) with -t, -i and -a shows the "
       "kernel's: the same columns, words and order. What the engine does not know is left out.",
       {kExit, kEnvironment}},
      {"stats",
       8,
       "[OPTION...]",
       "Shows what the engine has counted since it started, drops by reason, and levels as they "
       "are now.",
       {kExit, kEnvironment}},
      {"config",
       8,
       "[OPTION...]",
       "Shows every setting of the running engine with its source and its reason.",
       {kExit, kEnvironment}}};
  return texts;
}

std::string paragraphs(std::string_view text) {
  std::string shown;
  while (!text.empty()) {
    const std::size_t end = text.find("\n\n");
    shown += ".PP\n" + groff(text.substr(0, end)) + "\n";
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 2);
  }
  return shown;
}

std::string section(const Section& section) {
  return fmt::format(".SH {}\n{}", section.title, paragraphs(section.text));
}

std::string heading(const std::string& name, int number, std::string_view description) {
  return fmt::format(".TH {} {} \"\" \"flextoe\" \"FlexTOE\"\n.SH NAME\n{} \\- {}\n", groff(name),
                     number, groff(name), groff(description));
}

std::string option_text(const CLI::Option& option) {
  const std::string value = option.get_items_expected_max() == 0 ? "" : option.get_type_name();
  std::string name = option.get_name(false, true);
  for (std::size_t at = 0; (at = name.find(',', at)) != std::string::npos; at += 2) {
    name.replace(at, 1, ", ");
  }
  return fmt::format(".TP\n\\fB{}\\fR{}\n{}\n", groff(name),
                     value.empty() ? "" : " \\fI" + groff(value) + "\\fR",
                     groff(option.get_description()));
}

std::string options_of(const CLI::App& command) {
  std::string text = ".SH OPTIONS\n";
  for (const CLI::Option* option : command.get_options()) {
    if (!option->get_group().empty()) text += option_text(*option);
  }
  return text;
}

ManualPage verb_page(const CLI::App& command, const VerbText& verb) {
  ManualPage page{std::string("flextoe-") + verb.verb, verb.section, ""};
  page.text = heading(page.name, page.section, command.get_description());
  page.text += fmt::format(".SH SYNOPSIS\n\\fBflextoe {}\\fR {}\n", verb.verb, groff(verb.usage));
  page.text += ".SH DESCRIPTION\n" + paragraphs(verb.description) + options_of(command);
  for (const Section& more : verb.more) page.text += section(more);
  page.text += ".SH SEE ALSO\n\\fBflextoe\\fR(1), \\fBlibtoe\\fR(7)\n";
  return page;
}

ManualPage main_page(const CLI::App& app) {
  ManualPage page{"flextoe", 1, heading("flextoe", 1, app.get_description())};
  page.text +=
      ".SH SYNOPSIS\n\\fBflextoe\\fR \\fIVERB\\fR [\\fIOPTION\\fR...]\n.SH DESCRIPTION\n" +
      paragraphs(
          "Takes the data path of TCP away from the kernel and from programs, which need no "
          "change, and runs it in a process beside a network interface that it shares with the "
          "kernel.") +
      ".SH VERBS\n";
  for (const VerbText& verb : verb_texts()) {
    const CLI::App* command = app.get_subcommand(verb.verb);
    page.text += fmt::format(".TP\n\\fBflextoe\\-{}\\fR({})\n{}\n", verb.verb, verb.section,
                             groff(command->get_description()));
  }
  page.text += options_of(app);
  for (const Section& more : {kExit, kEnvironment, kFiles}) page.text += section(more);
  page.text += ".SH SEE ALSO\n\\fBlibtoe\\fR(7), \\fBss\\fR(8)\n";
  return page;
}

ManualPage library_page() {
  ManualPage page{"libtoe", 7, heading("libtoe", 7, "sockets of unmodified programs over FlexTOE")};
  page.text += section(
      {"DESCRIPTION",
       "libtoe.so is loaded by LD_PRELOAD, which flextoe-exec(1) sets. A TCP socket is a plain "
       "socket of the kernel until listen(2) or connect(2); then the engine is asked, and serves "
       "it or says why not. Calls, errors and signals are those of Linux.\n\nWithout an engine "
       "the kernel serves; when one comes, listeners are registered and new connections are "
       "offloaded. When the engine dies, its connections end with ECONNRESET and the kernel "
       "serves on."});
  page.text += section(kEnvironment);
  page.text += paragraphs(
      "FLEXTOE_STRICT: 1 = a listen or connect that the engine should serve and cannot fails with "
      "EOPNOTSUPP and one line; set by flextoe exec --strict.");
  page.text += ".SH SOCKETS LEFT TO THE KERNEL\n.PP\nThe words of \\fBflextoe\\-status\\fR(8):\n";
  for (std::uint32_t i = 1; i < static_cast<std::uint32_t>(shm::KernelReason::kCount); ++i) {
    const char* word = shm::kernel_reason_word(static_cast<shm::KernelReason>(i));
    page.text +=
        fmt::format(".TP\n\\fB{}\\fR\n{}\n", groff(word), groff(shm::kernel_reason_meaning(word)));
  }
  page.text += ".SH SEE ALSO\n\\fBflextoe\\-exec\\fR(1), \\fBflextoe\\fR(1), \\fBtcp\\fR(7)\n";
  return page;
}

}  // namespace

std::string groff(std::string_view text) {
  std::string shown;
  bool line_begins = true;
  for (const char c : text) {
    if (line_begins && (c == '.' || c == '\'')) shown += "\\&";
    line_begins = c == '\n';
    if (c == '\\') {
      shown += "\\e";
    } else if (c == '-') {
      shown += "\\-";
    } else {
      shown += c;
    }
  }
  return shown;
}

std::vector<ManualPage> manual_pages(const CLI::App& app) {
  std::vector<ManualPage> pages = {main_page(app), library_page()};
  for (const VerbText& verb : verb_texts()) {
    pages.push_back(verb_page(*app.get_subcommand(verb.verb), verb));
  }
  return pages;
}

int write_manual(const CLI::App& app, const std::string& directory) {
  for (const ManualPage& page : manual_pages(app)) {
    const std::string folder = fmt::format("{}/man{}", directory, page.section);
    const std::string path = fmt::format("{}/{}.{}", folder, page.name, page.section);
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    std::ofstream file(path);
    if (!(file << page.text) || !file.flush()) {
      std::fprintf(stderr, "flextoe: cannot write %s\n", path.c_str());
      return 1;
    }
  }
  return 0;
}

}  // namespace toe::cli
