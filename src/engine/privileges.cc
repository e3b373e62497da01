#include "engine/privileges.h"

#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <memory>
#include <string>

#include <fmt/format.h>

namespace toe::engine {
namespace {

struct CapabilityFree {
  void operator()(cap_t set) const { ::cap_free(set); }
};
using Capabilities = std::unique_ptr<std::remove_pointer_t<cap_t>, CapabilityFree>;

struct Named {
  cap_value_t value;
  const char* name;
};
constexpr Named kKept[] = {{CAP_NET_ADMIN, "CAP_NET_ADMIN"},
                           {CAP_NET_RAW, "CAP_NET_RAW"},
                           {CAP_BPF, "CAP_BPF"},
                           {CAP_PERFMON, "CAP_PERFMON"},
                           {CAP_IPC_LOCK, "CAP_IPC_LOCK"}};
/// Without IPC_LOCK the frame memory counts against the memlock limit, which may suffice;
/// PERFMON is for the verifier of newer programs.
constexpr cap_value_t kNeeded[] = {CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF};

bool has(cap_t set, cap_value_t value) {
  cap_flag_value_t flag = CAP_CLEAR;
  return ::cap_get_flag(set, value, CAP_PERMITTED, &flag) == 0 && flag == CAP_SET;
}

Error failure(const char* what) {
  return {errno, fmt::format("{}: {}", what, std::strerror(errno))};
}

Status keep_only(cap_t kept) {
  if (::cap_set_proc(kept) != 0) return failure("cannot reduce capabilities");
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return failure("cannot set no_new_privs");
  return Done{};
}

}  // namespace

Status check_privileges() {
  const Capabilities current(::cap_get_proc());
  if (current == nullptr) return failure("cannot read capabilities");
  std::string missing;
  for (const Named& capability : kKept) {
    const bool needed =
        std::find(std::begin(kNeeded), std::end(kNeeded), capability.value) != std::end(kNeeded);
    if (!needed || has(current.get(), capability.value)) continue;
    missing += (missing.empty() ? "" : ", ") + std::string(capability.name);
  }
  if (missing.empty()) return Done{};
  return Error{EPERM, "missing privilege " + missing + ": run as root"};
}

Status drop_privileges() {
  const Capabilities current(::cap_get_proc());
  const Capabilities kept(::cap_init());
  if (current == nullptr || kept == nullptr) return failure("cannot read capabilities");
  for (const Named& capability : kKept) {
    if (!has(current.get(), capability.value)) continue;
    ::cap_set_flag(kept.get(), CAP_PERMITTED, 1, &capability.value, CAP_SET);
    ::cap_set_flag(kept.get(), CAP_EFFECTIVE, 1, &capability.value, CAP_SET);
  }
  return keep_only(kept.get());
}

Status drop_all_privileges() {
  const Capabilities none(::cap_init());
  if (none == nullptr) return failure("cannot read capabilities");
  return keep_only(none.get());
}

std::uint64_t raise_fd_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  rlimit raised = limit;
  raised.rlim_cur = raised.rlim_max;
  return ::setrlimit(RLIMIT_NOFILE, &raised) == 0 ? raised.rlim_cur : limit.rlim_cur;
}

}  // namespace toe::engine
