#include "cli/program.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "base/unique_fd.h"

namespace toe::cli {
namespace {

constexpr int kMaxScripts = 4;  ///< as the kernel: a script's interpreter may be a script
constexpr std::size_t kMaxFirstLine = 256;

#if defined(__x86_64__)
constexpr Elf64_Half kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr Elf64_Half kMachine = EM_AARCH64;
#endif

/// A T at `offset`, if it lies in the file.
template <typename T>
std::optional<T> read_at(std::span<const std::uint8_t> file, std::uint64_t offset) {
  if (offset > file.size() || file.size() - offset < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, file.data() + offset, sizeof value);
  return value;
}

std::string_view text_at(std::span<const std::uint8_t> file, std::uint64_t offset,
                         std::uint64_t bytes) {
  if (offset > file.size() || file.size() - offset < bytes) return {};
  const char* text = reinterpret_cast<const char*>(file.data() + offset);
  return {text, ::strnlen(text, bytes)};
}

bool is_go_note(std::span<const std::uint8_t> file, const Elf64_Phdr& note) {
  const auto header = read_at<Elf64_Nhdr>(file, note.p_offset);
  return header && header->n_namesz == 4 && header->n_type == 4 &&
         text_at(file, note.p_offset + sizeof(Elf64_Nhdr), 4) == "Go";
}

bool has_go_section(std::span<const std::uint8_t> file, const Elf64_Ehdr& elf) {
  const auto names =
      read_at<Elf64_Shdr>(file, elf.e_shoff + std::uint64_t{elf.e_shstrndx} * sizeof(Elf64_Shdr));
  if (!names || elf.e_shoff == 0) return false;
  for (std::uint64_t i = 0; i < elf.e_shnum; ++i) {
    const auto section = read_at<Elf64_Shdr>(file, elf.e_shoff + i * sizeof(Elf64_Shdr));
    if (!section) return false;
    const std::string_view name = text_at(file, names->sh_offset + section->sh_name, 32);
    if (name == ".go.buildinfo" || name == ".note.go.buildid") return true;
  }
  return false;
}

struct Segments {
  bool interpreter = false;
  bool musl = false;
  bool go = false;
};

Segments look_at_segments(std::span<const std::uint8_t> file, const Elf64_Ehdr& elf) {
  Segments found;
  for (std::uint64_t i = 0; i < elf.e_phnum; ++i) {
    const auto segment = read_at<Elf64_Phdr>(file, elf.e_phoff + i * sizeof(Elf64_Phdr));
    if (!segment) break;
    if (segment->p_type == PT_INTERP) {
      found.interpreter = true;
      const auto path = text_at(file, segment->p_offset, segment->p_filesz);
      found.musl = path.find("ld-musl") != std::string_view::npos;
    } else if (segment->p_type == PT_NOTE) {
      found.go = found.go || is_go_note(file, *segment);
    }
  }
  return found;
}

/// A file mapped for reading.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid() || ::fstat(fd.get(), &status_) != 0 || status_.st_size <= 0) return;
    size_ = static_cast<std::size_t>(status_.st_size);
    base_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (base_ == MAP_FAILED) base_ = nullptr;
  }
  ~MappedFile() {
    if (base_ != nullptr) ::munmap(base_, size_);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::uint8_t> bytes() const {
    return {static_cast<const std::uint8_t*>(base_), base_ == nullptr ? 0 : size_};
  }

 private:
  struct stat status_ {};
  void* base_ = nullptr;
  std::size_t size_ = 0;
};

/// ENOENT, EACCES or 0.
int executable(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return errno == ENOTDIR ? ENOENT : errno;
  if (!S_ISREG(status.st_mode)) return EACCES;
  return ::access(path.c_str(), X_OK) == 0 ? 0 : EACCES;
}

int find_in_path(const std::string& name, std::string& path) {
  if (name.find('/') != std::string::npos) {
    path = name;
    return executable(path);
  }
  const char* list = std::getenv("PATH");
  std::string_view rest = list != nullptr ? list : "/usr/local/bin:/usr/bin:/bin";
  int error = ENOENT;
  for (;;) {
    const std::size_t colon = rest.find(':');
    const std::string_view folder = rest.substr(0, colon);
    const std::string candidate = std::string(folder.empty() ? "." : folder) + "/" + name;
    const int result = executable(candidate);
    if (result == 0) {
      path = candidate;
      return 0;
    }
    if (result == EACCES) error = EACCES;
    if (colon == std::string_view::npos) return error;
    rest.remove_prefix(colon + 1);
  }
}

bool gains_privileges(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return false;
  const bool user = (status.st_mode & S_ISUID) != 0 && status.st_uid != ::geteuid();
  const bool group = (status.st_mode & S_ISGID) != 0 && (status.st_mode & S_IXGRP) != 0 &&
                     status.st_gid != ::getegid();
  const bool file =
      ::geteuid() != 0 && ::getxattr(path.c_str(), "security.capability", nullptr, 0) > 0;
  return user || group || file;
}

std::string next_word(std::string_view& line) {
  const std::size_t begin = line.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  line.remove_prefix(begin);
  const std::size_t end = std::min(line.find_first_of(" \t"), line.size());
  std::string word(line.substr(0, end));
  line.remove_prefix(end);
  return word;
}

/// The program that runs a script; empty if `file` is none.
std::string interpreter_of(std::span<const std::uint8_t> file) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()),
                              std::min(file.size(), kMaxFirstLine));
  if (text.substr(0, 2) != "#!") return {};
  std::string_view line = text.substr(2, text.find('\n') - 2);
  const std::string interpreter = next_word(line);
  if (interpreter.substr(interpreter.rfind('/') + 1) != "env") return interpreter;
  for (std::string word = next_word(line); !word.empty(); word = next_word(line)) {
    if (word[0] != '-' && word.find('=') == std::string::npos) return word;
  }
  return interpreter;
}

}  // namespace

const char* obstacle_text(Obstacle obstacle) {
  switch (obstacle) {
    case Obstacle::kNone:
      return "can be served";
    case Obstacle::kStatic:
      return "is statically linked";
    case Obstacle::kMusl:
      return "uses musl as its C library";
    case Obstacle::kGo:
      return "is a Go program, which does not use the C library for sockets";
    case Obstacle::kSetuid:
      return "gains privileges when started, so that preloading is not allowed";
    case Obstacle::kOtherMachine:
      return "is built for another kind of machine";
  }
  return "";
}

std::optional<Obstacle> look_at_elf(std::span<const std::uint8_t> file) {
  const auto elf = read_at<Elf64_Ehdr>(file, 0);
  if (!elf || std::memcmp(elf->e_ident, ELFMAG, SELFMAG) != 0) return std::nullopt;
  if (elf->e_ident[EI_CLASS] != ELFCLASS64 || elf->e_machine != kMachine) {
    return Obstacle::kOtherMachine;
  }
  const Segments found = look_at_segments(file, *elf);
  if (found.go || has_go_section(file, *elf)) return Obstacle::kGo;
  if (!found.interpreter) return Obstacle::kStatic;
  return found.musl ? Obstacle::kMusl : Obstacle::kNone;
}

Program look_at_program(const std::string& name) {
  Program program;
  program.error = find_in_path(name, program.path);
  if (program.error != 0) return program;
  std::string path = program.path;
  for (int i = 0; i < kMaxScripts; ++i) {
    const MappedFile file(path);
    if (gains_privileges(path) && interpreter_of(file.bytes()).empty()) {
      program.obstacle = Obstacle::kSetuid;
      return program;
    }
    if (const auto obstacle = look_at_elf(file.bytes())) {
      program.obstacle = *obstacle;
      return program;
    }
    const std::string interpreter = interpreter_of(file.bytes());
    if (interpreter.empty() || find_in_path(interpreter, path) != 0) return program;
  }
  return program;
}

}  // namespace toe::cli
