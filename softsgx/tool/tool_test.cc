// Runs the softsgx command itself.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "softsgx/isa/machine.h"

namespace {

struct Outcome {
  int status = -1;
  std::string output;  // stdout and stderr
};

Outcome run(const std::string& arguments) {
  Outcome out;
  FILE* pipe = popen(fmt::format("{} {} 2>&1", SOFTSGX_COMMAND, arguments).c_str(), "r");
  if (pipe == nullptr) return out;
  std::array<char, 4096> buffer;
  while (const std::size_t n = fread(buffer.data(), 1, buffer.size(), pipe)) out.output.append(buffer.data(), n);
  out.status = WEXITSTATUS(pclose(pipe));
  return out;
}

class ToolTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = "/dev/shm/softsgx-tool-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  [[nodiscard]] std::string file(const std::string& name) const { return directory_ / name; }
  std::filesystem::path directory_;
};

TEST_F(ToolTest, CreatesASparseMachineAndShowsIt) {
  ASSERT_EQ(run("create " + file("a") + " --epc 256M --cpusvn 0102").status, 0);
  EXPECT_EQ(std::filesystem::status(file("a")).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  const Outcome info = run("info --json " + file("a"));
  ASSERT_EQ(info.status, 0) << info.output;
  const auto json = nlohmann::json::parse(info.output);
  EXPECT_EQ(json["epc_bytes"], 256 << 20);
  EXPECT_EQ(json["epc_free_bytes"], 256 << 20);
  EXPECT_EQ(json["cpusvn"], "01020000000000000000000000000000");
  EXPECT_EQ(json["enclaves"], 0);
}

TEST_F(ToolTest, InfoIsReadableToo) {
  ASSERT_EQ(run("create " + file("a") + " --epc 1M").status, 0);
  const Outcome info = run("info " + file("a"));
  EXPECT_EQ(info.status, 0);
  EXPECT_NE(info.output.find("epc_bytes        1048576"), std::string::npos) << info.output;
}

TEST_F(ToolTest, CreateRefusesAnExistingFile) {
  ASSERT_EQ(run("create " + file("a") + " --epc 1M").status, 0);
  const Outcome again = run("create " + file("a") + " --epc 1M");
  EXPECT_NE(again.status, 0);
  EXPECT_NE(again.output.find("File exists"), std::string::npos) << again.output;
}

TEST_F(ToolTest, CreateRefusesASizeThatIsNoWholePages) {
  const Outcome made = run("create " + file("a") + " --epc 5000");
  EXPECT_NE(made.status, 0);
  EXPECT_NE(made.output.find("multiple of 4 KiB"), std::string::npos) << made.output;
}

TEST_F(ToolTest, CreateRefusesABadCpusvn) {
  const Outcome made = run("create " + file("a") + " --epc 1M --cpusvn xyz");
  EXPECT_NE(made.status, 0);
  EXPECT_NE(made.output.find("hexadecimal"), std::string::npos) << made.output;
}

TEST_F(ToolTest, InfoRefusesAFileThatIsNoMachine) {
  std::ofstream(file("a")) << std::string(8192, 'x');
  const Outcome info = run("info " + file("a"));
  EXPECT_NE(info.status, 0);
  EXPECT_NE(info.output.find("not a machine file"), std::string::npos) << info.output;
}

TEST_F(ToolTest, InfoOfAMissingFileSaysWhatToDo) {
  const Outcome info = run("info " + file("none"));
  EXPECT_NE(info.status, 0);
  EXPECT_NE(info.output.find("softsgx create"), std::string::npos) << info.output;
}

TEST_F(ToolTest, DestroyRemovesOnlyMachines) {
  ASSERT_EQ(run("create " + file("a") + " --epc 1M").status, 0);
  EXPECT_EQ(run("destroy " + file("a")).status, 0);
  EXPECT_FALSE(std::filesystem::exists(file("a")));
  std::ofstream(file("b")) << "precious";
  EXPECT_NE(run("destroy " + file("b")).status, 0);
  EXPECT_TRUE(std::filesystem::exists(file("b")));
}

// A machine with pages of an owner that cannot be looked up, as after a restart of the host.
void leave_foreign_pages(const std::string& path) {
  std::string error;
  const auto machine = softsgx::Machine::open(path, {}, error);
  ASSERT_NE(machine, nullptr) << error;
  softsgx::Owner owner = softsgx::Owner::self();
  owner.boot ^= 1;
  ASSERT_TRUE(machine->allocate_run(3, owner));
}

TEST_F(ToolTest, DestroyAndResetRefuseAMachineInUse) {
  ASSERT_EQ(run("create " + file("a") + " --epc 1M").status, 0);
  leave_foreign_pages(file("a"));
  for (const char* command : {"reset ", "destroy "}) {
    const Outcome refused = run(command + file("a"));
    EXPECT_NE(refused.status, 0);
    EXPECT_NE(refused.output.find("in use by 1 process"), std::string::npos) << refused.output;
  }
  EXPECT_TRUE(std::filesystem::exists(file("a")));
}

TEST_F(ToolTest, ResetEmptiesTheEpcAndKeepsTheKeys) {
  ASSERT_EQ(run("create " + file("a") + " --epc 1M").status, 0);
  const auto before = nlohmann::json::parse(run("info --json " + file("a")).output);
  leave_foreign_pages(file("a"));
  ASSERT_EQ(run("reset --force " + file("a")).status, 0);
  const auto after = nlohmann::json::parse(run("info --json " + file("a")).output);
  EXPECT_EQ(after["epc_free_bytes"], 1 << 20);
  EXPECT_EQ(after["platform_id"], before["platform_id"]);
}

TEST_F(ToolTest, ASectionSharesThePlatform) {
  ASSERT_EQ(run("create " + file("a") + " --epc 1M").status, 0);
  ASSERT_EQ(run("section " + file("a") + " " + file("vm") + " --epc 2M").status, 0);
  const auto host = nlohmann::json::parse(run("info --json " + file("a")).output);
  const auto vm = nlohmann::json::parse(run("info --json " + file("vm")).output);
  EXPECT_EQ(host["platform_id"], vm["platform_id"]);
  EXPECT_EQ(vm["epc_bytes"], 2 << 20);
}

TEST_F(ToolTest, NoCommandIsAnError) {
  EXPECT_NE(run("").status, 0);
}

}  // namespace
