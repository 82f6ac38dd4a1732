#include "daemon/spawn.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>
#include <system_error>

#include "daemon/registry.h"

namespace sealift::daemon {
namespace {

TEST(Environment, TakesTheirsButNotWhatSteersTheLoader) {
  const std::vector<std::string> merged = merge_environment(
      {"APP=1", "LD_PRELOAD=/evil.so", "GLIBC_TUNABLES=x", "SOFTSGX_MACHINE=theirs", "SEALIFT_SOCKET=theirs"},
      {"HOME=/root", "LD_PRELOAD=/ours.so", "SOFTSGX_MACHINE=ours"});
  EXPECT_EQ(merged, (std::vector<std::string>{"APP=1", "LD_PRELOAD=/ours.so", "SOFTSGX_MACHINE=ours"}));
}

TEST(MayStart, AnythingOnLoopbackOnly) {
  Options options;
  for (const char* listen : {"127.0.0.1:1", "localhost:1", "[::1]:1"}) {
    options.listen = listen;
    EXPECT_TRUE(may_start(options, "/bin/sh")) << listen;
  }
  for (const char* listen : {"0.0.0.0:1", ":1", "host:1", "1.2.3.4"}) {
    options.listen = listen;
    EXPECT_FALSE(may_start(options, "/bin/sh")) << listen;
  }
}

TEST(MayStart, OnlyAllowedFilesAndFolders) {
  Options options;
  options.listen = "127.0.0.1:1";
  options.allowed_programs = {"/usr/bin/env"};
  EXPECT_TRUE(may_start(options, "/usr/bin/env"));
  EXPECT_FALSE(may_start(options, "/usr/bin/id"));
  EXPECT_FALSE(may_start(options, "/usr/bin/none"));
  options.allowed_programs = {"/usr/bin"};
  EXPECT_TRUE(may_start(options, "/usr/bin/id"));
  EXPECT_FALSE(may_start(options, "/usr/bin/../../proc/self/exe")) << "paths are resolved first";
  options.allowed_programs = {"/usr/b"};
  EXPECT_FALSE(may_start(options, "/usr/bin/id")) << "a folder, not a prefix of a name";
}

TEST(IsNamed, LineagePrefixNameOrPid) {
  const std::string lineage = "\x3f\xa9" + std::string(14, '\0');
  EXPECT_TRUE(is_named("3fa9", "app", 12, lineage));
  EXPECT_TRUE(is_named("3fa900", "app", 12, lineage));
  EXPECT_TRUE(is_named("app", "app", 12, lineage));
  EXPECT_TRUE(is_named("12", "app", 12, lineage));
  EXPECT_FALSE(is_named("3fa", "app", 12, lineage)) << "too short";
  EXPECT_FALSE(is_named("3fa8", "app", 12, lineage));
  EXPECT_FALSE(is_named("ap", "app", 12, lineage)) << "names are not abbreviated";
  EXPECT_FALSE(is_named("", "", 12, lineage));
}

class ChildTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = "/tmp/sealift-child-XXXXXX";
    dir_ = ::mkdtemp(pattern.data());
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  std::shared_ptr<Child> shell(const std::string& script) {
    return Child::start(io_, {"/bin/sh", {"sh", "-c", script}, "/", {"A=b"}, dir_ / "log"},
                        [this](int status) { status_ = status; });
  }
  std::string log() {
    std::ostringstream text;
    text << std::ifstream(dir_ / "log").rdbuf();
    return text.str();
  }

  std::filesystem::path dir_;
  asio::io_context io_;
  std::optional<int> status_;
};

TEST_F(ChildTest, RunsWhereItShouldWithWhatItShould) {
  const auto child = shell("echo out $A $(pwd); echo err >&2; exit 7");
  io_.run();
  ASSERT_TRUE(status_.has_value());
  EXPECT_EQ(WEXITSTATUS(*status_), 7);
  EXPECT_EQ(log(), "out b /\nerr\n");
  EXPECT_FALSE(child->running());
}

TEST_F(ChildTest, HasASessionAndNoneOfOurDescriptors) {
  const int leak = ::dup(0);  // not close-on-exec
  const auto child = shell("ls /proc/self/fd | wc -l; [ $(cut -d' ' -f6 /proc/$$/stat) = $$ ] && echo leader");
  io_.run();
  ::close(leak);
  EXPECT_EQ(log(), "4\nleader\n");  // 0, 1, 2 and the folder that ls reads
}

TEST_F(ChildTest, KillsWhatDoesNotHeedATerm) {
  const auto child = shell("trap '' TERM; echo ready; while :; do :; done");
  while (log() != "ready\n") ::usleep(1000);
  child->terminate(std::chrono::milliseconds(50));
  io_.run();
  EXPECT_TRUE(WIFSIGNALED(*status_));
  EXPECT_EQ(WTERMSIG(*status_), SIGKILL);
}

TEST_F(ChildTest, AMissingProgramIsAnError) {
  EXPECT_THROW((void)Child::start(io_, {"/no/such", {"x"}, "", {}, dir_ / "log"}, [](int) {}), std::system_error);
}

}  // namespace
}  // namespace sealift::daemon
