#include "cli/program.h"

#include <elf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace toe::cli {
namespace {

/// An ELF image with the wanted program headers.
class Image {
 public:
  Image() : bytes_(4096) {
    header().e_ident[EI_CLASS] = ELFCLASS64;
    std::memcpy(header().e_ident, ELFMAG, SELFMAG);
    header().e_ident[EI_CLASS] = ELFCLASS64;
#if defined(__x86_64__)
    header().e_machine = EM_X86_64;
#else
    header().e_machine = EM_AARCH64;
#endif
    header().e_phoff = sizeof(Elf64_Ehdr);
  }
  Elf64_Ehdr& header() { return *reinterpret_cast<Elf64_Ehdr*>(bytes_.data()); }
  Elf64_Phdr& add(std::uint32_t type, std::uint64_t offset, std::uint64_t size) {
    auto* segments = reinterpret_cast<Elf64_Phdr*>(bytes_.data() + header().e_phoff);
    Elf64_Phdr& segment = segments[header().e_phnum++];
    segment.p_type = type;
    segment.p_offset = offset;
    segment.p_filesz = size;
    return segment;
  }
  Image& interpreter(const std::string& path) {
    add(PT_INTERP, 2048, path.size() + 1);
    std::memcpy(bytes_.data() + 2048, path.c_str(), path.size() + 1);
    return *this;
  }
  Image& go_note() {
    add(PT_NOTE, 3072, 32);
    const Elf64_Nhdr note{4, 12, 4};
    std::memcpy(bytes_.data() + 3072, &note, sizeof note);
    std::memcpy(bytes_.data() + 3072 + sizeof note, "Go\0", 4);
    return *this;
  }
  std::vector<std::uint8_t>& bytes() { return bytes_; }

 private:
  std::vector<std::uint8_t> bytes_;
};

constexpr char kGlibc[] = "/lib64/ld-linux-x86-64.so.2";

TEST(Program, Elf) {
  EXPECT_EQ(look_at_elf(Image().interpreter(kGlibc).bytes()), Obstacle::kNone);
  EXPECT_EQ(look_at_elf(Image().bytes()), Obstacle::kStatic);
  EXPECT_EQ(look_at_elf(Image().interpreter("/lib/ld-musl-x86_64.so.1").bytes()), Obstacle::kMusl);
  EXPECT_EQ(look_at_elf(Image().go_note().bytes()), Obstacle::kGo);
  EXPECT_EQ(look_at_elf(Image().interpreter(kGlibc).go_note().bytes()), Obstacle::kGo);
  Image narrow;
  narrow.header().e_ident[EI_CLASS] = ELFCLASS32;
  EXPECT_EQ(look_at_elf(narrow.bytes()), Obstacle::kOtherMachine);
  Image other;
  other.header().e_machine = EM_S390;
  EXPECT_EQ(look_at_elf(other.bytes()), Obstacle::kOtherMachine);
}

TEST(Program, NoElf) {
  EXPECT_FALSE(look_at_elf({}).has_value());
  const std::vector<std::uint8_t> text(100, 'x');
  EXPECT_FALSE(look_at_elf(text).has_value());
}

TEST(Program, BrokenImagesAreReadWithinTheirBounds) {
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    Image image;
    image.interpreter(kGlibc).go_note();
    for (int i = 0; i < 8; ++i)
      image.bytes()[16 + random() % 300] = static_cast<std::uint8_t>(random());
    image.bytes().resize(random() % 4097);
    const std::vector<std::uint8_t> exact(image.bytes());  // no slack behind the end
    (void)look_at_elf(exact);
  }
}

TEST(Program, ThisOneAndOnesThatAreNotThere) {
  EXPECT_EQ(look_at_program("/proc/self/exe").error, 0);
  EXPECT_EQ(look_at_program("/proc/self/exe").obstacle, Obstacle::kNone);
  EXPECT_EQ(look_at_program("no-such-program-anywhere").error, ENOENT);
  EXPECT_EQ(look_at_program("/no/such/program").error, ENOENT);
  EXPECT_EQ(look_at_program("/etc/passwd").error, EACCES);
  EXPECT_EQ(look_at_program("/tmp").error, EACCES);
  EXPECT_EQ(look_at_program("sh").error, 0);
}

class Script : public ::testing::Test {
 protected:
  Script() {
    char name[] = "/tmp/toe-program-XXXXXX";
    folder_ = ::mkdtemp(name);
  }
  ~Script() override { std::filesystem::remove_all(folder_); }
  std::string write(const std::string& name, const std::string& content) {
    const std::string path = folder_ + "/" + name;
    std::ofstream(path, std::ios::binary) << content;
    ::chmod(path.c_str(), 0755);
    return path;
  }
  std::string write(const std::string& name, const std::vector<std::uint8_t>& image) {
    return write(name, std::string(image.begin(), image.end()));
  }
  std::string folder_;
};

TEST_F(Script, LeadsToItsInterpreter) {
  const std::string program = write("static", Image().bytes());
  EXPECT_EQ(look_at_program(program).obstacle, Obstacle::kStatic);
  const std::string script = write("script", "#! " + program + " -x\necho\n");
  EXPECT_EQ(look_at_program(script).obstacle, Obstacle::kStatic);
  EXPECT_EQ(look_at_program(script).path, script);
  const std::string twice = write("twice", "#!" + script + "\n");
  EXPECT_EQ(look_at_program(twice).obstacle, Obstacle::kStatic);
  const std::string env = write("env-script", "#!/usr/bin/env -S A=b " + program + "\n");
  EXPECT_EQ(look_at_program(env).obstacle, Obstacle::kStatic);
  const std::string shell = write("shell", "#!/bin/sh\n");
  EXPECT_EQ(look_at_program(shell).obstacle, Obstacle::kNone);
  const std::string itself = write("itself", "#!" + folder_ + "/itself\n");
  EXPECT_EQ(look_at_program(itself).obstacle, Obstacle::kNone);
  EXPECT_EQ(look_at_program(write("empty", std::string())).error, 0);
}

TEST_F(Script, SetuidOfAnotherUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to give a file away";
  const std::string program = write("setuid", Image().interpreter(kGlibc).bytes());
  ASSERT_EQ(::chown(program.c_str(), 12345, 12345), 0);
  ::chmod(program.c_str(), 04755);
  EXPECT_EQ(look_at_program(program).obstacle, Obstacle::kSetuid);
  ::chmod(program.c_str(), 0755);
  EXPECT_EQ(look_at_program(program).obstacle, Obstacle::kNone);
}

}  // namespace
}  // namespace toe::cli
