#include "daemon/endpoint.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

namespace sealift::daemon {
namespace {

std::string parsed(const std::string& text) {
  const auto out = parse_host_port(text);
  return out ? out->str() : "refused";
}

TEST(HostPort, Accepts) {
  EXPECT_EQ(parsed("b.example"), "b.example:7419");
  EXPECT_EQ(parsed("b.example:99"), "b.example:99");
  EXPECT_EQ(parsed("192.0.2.1:0"), "192.0.2.1:0");
  EXPECT_EQ(parsed("[::1]"), "[::1]:7419");
  EXPECT_EQ(parsed("[::1]:80"), "[::1]:80");
  EXPECT_EQ(parsed(":80"), ":80");
}

TEST(HostPort, Refuses) {
  for (const char* text : {"", "host:", "host:abc", "host:65536", "host:123456", "[::1", "[]:80", "[::1]80", "a:b:c"}) {
    EXPECT_EQ(parsed(text), "refused") << text;
  }
}

class ListenUnix : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = "/tmp/sealift-endpoint-XXXXXX";
    dir_ = ::mkdtemp(pattern.data());
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  std::filesystem::path dir_;
  asio::io_context io_;
};

TEST_F(ListenUnix, MakesAPrivateSocketInAPrivateDirectory) {
  const std::filesystem::path path = dir_ / "run" / "d.sock";
  const auto acceptor = listen_unix(io_, path);
  struct stat info {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  ASSERT_EQ(::stat(path.parent_path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
}

TEST_F(ListenUnix, ReplacesAStaleSocket) {
  const std::string path = dir_ / "d.sock";
  { const auto gone = listen_unix(io_, path); }
  EXPECT_NO_THROW((void)listen_unix(io_, path));
}

TEST_F(ListenUnix, LeavesALiveSocketAlone) {
  const std::string path = dir_ / "d.sock";
  const auto alive = listen_unix(io_, path);
  EXPECT_THROW((void)listen_unix(io_, path), std::system_error);
}

TEST_F(ListenUnix, NeverDeletesAnOrdinaryFile) {
  const std::string path = dir_ / "file";
  std::fclose(std::fopen(path.c_str(), "w"));
  EXPECT_THROW((void)listen_unix(io_, path), std::system_error);
  EXPECT_TRUE(std::filesystem::is_regular_file(path));
}

TEST_F(ListenUnix, RefusesAPathThatIsTooLong) {
  EXPECT_THROW((void)listen_unix(io_, std::string(200, 'x')), std::system_error);
}

}  // namespace
}  // namespace sealift::daemon
