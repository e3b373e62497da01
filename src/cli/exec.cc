#include "cli/exec.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <climits>

#include "cli/engine_client.h"
#include "cli/program.h"

namespace toe::cli {
namespace {

constexpr int kNotExecutable = 126;
constexpr int kNotFound = 127;

std::string own_folder() {
  char path[PATH_MAX];
  const ssize_t length = ::readlink("/proc/self/exe", path, sizeof path);
  if (length <= 0) return {};
  const std::string text(path, static_cast<std::size_t>(length));
  return text.substr(0, text.rfind('/'));
}

std::string canonical(const std::string& path) {
  char resolved[PATH_MAX];
  return ::realpath(path.c_str(), resolved) != nullptr ? resolved : std::string();
}

int not_started(const std::string& program, int error) {
  std::fprintf(stderr, "flextoe: cannot start %s: %s\n", program.c_str(), std::strerror(error));
  return error == ENOENT ? kNotFound : kNotExecutable;
}

/// 0, or the exit code.
int set_environment(const ExecOptions& options) {
  const std::string library = find_library();
  if (library.empty()) {
    std::fprintf(stderr, "flextoe: libtoe.so is not beside this program and not installed\n");
    return 1;
  }
  if (library.find_first_of(" :") != std::string::npos) {
    std::fprintf(stderr, "flextoe: a path with blanks or colons cannot be preloaded: %s\n",
                 library.c_str());
    return 1;
  }
  ::setenv("LD_PRELOAD", preload_text(library, std::getenv("LD_PRELOAD")).c_str(), 1);
  if (!options.name.empty()) ::setenv("FLEXTOE_NAME", options.name.c_str(), 1);
  if (options.strict) ::setenv("FLEXTOE_STRICT", "1", 1);
  return 0;
}

}  // namespace

std::string find_library() {
  const std::string folder = own_folder();
  for (const std::string& place :
       {folder + "/../lib/libtoe.so", folder + "/../lib/flextoe/libtoe.so",
        std::string("/usr/local/lib/libtoe.so"), std::string("/usr/lib/libtoe.so")}) {
    const std::string path = canonical(place);
    if (!path.empty()) return path;
  }
  return {};
}

std::string preload_text(const std::string& library, const char* present) {
  return present != nullptr && *present != '\0' ? library + ":" + present : library;
}

int exec_program(const ExecOptions& options) {
  const Program program = look_at_program(options.command[0]);
  if (program.error != 0) return not_started(options.command[0], program.error);
  if (program.obstacle != Obstacle::kNone && !options.allow_kernel) {
    std::fprintf(stderr,
                 "flextoe: %s %s, so the engine cannot serve it; with --allow-kernel it runs on "
                 "the kernel's TCP\n",
                 options.command[0].c_str(), obstacle_text(program.obstacle));
    return 2;
  }
  const std::string name = engine_name(options.name);
  if (options.strict) {
    const Status status = reach_engine(name);
    if (!status.ok()) {
      std::fprintf(stderr, "flextoe: %s\n", status.error().text.c_str());
      return 1;
    }
  }
  const int failed = set_environment(options);
  if (failed != 0) return failed;
  std::vector<char*> arguments;
  for (const std::string& argument : options.command) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  ::execv(program.path.c_str(), arguments.data());
  if (errno == ENOEXEC) {  // a script without a first line, as execvp treats it
    arguments.insert(arguments.begin(), const_cast<char*>("/bin/sh"));
    arguments[1] = const_cast<char*>(program.path.c_str());
    ::execv(arguments[0], arguments.data());
  }
  return not_started(options.command[0], errno);
}

}  // namespace toe::cli
