// Migrations between two real sealiftd processes, nobody harmed.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/testing/cluster.h"

namespace sealift::daemon::testing {
namespace {

using Migration = Cluster;

wire::Envelope migrate_request(const std::string& id, const std::string& target) {
  wire::Envelope request;
  request.mutable_migrate_request()->set_id(id);
  request.mutable_migrate_request()->set_target(target);
  return request;
}

TEST_F(Migration, AnEnclaveMovesAndContinues) {
  start_program(a_);
  const wire::MigrationInfo done = migrate(a_, b_).get();
  EXPECT_EQ(done.phase(), wire::DONE) << done.failure().what() << done.failure().object();
  EXPECT_EQ(done.records(), 21u);
  EXPECT_EQ(done.bytes_done(), done.bytes_total());
  EXPECT_GT(done.downtime_seconds(), 0);
  EXPECT_LE(done.downtime_seconds(), done.total_seconds());
  EXPECT_EQ(the_one_running(), "target-b");
  wait_for("destroyed", "source-a");
}

TEST_F(Migration, ItMovesBackAgain) {
  start_program(a_);
  ASSERT_EQ(migrate(a_, b_).get().phase(), wire::DONE);
  // One that is on its way out bears the same name.
  wait_gone(wait_for("destroyed", "source-a").pid);
  ASSERT_EQ(migrate(b_, a_).get().phase(), wire::DONE);
  EXPECT_EQ(the_one_running(), "target-a");
  wait_gone(wait_for("destroyed", "target-b").pid);
  ASSERT_EQ(migrate(a_, b_).get().phase(), wire::DONE);
  EXPECT_EQ(the_one_running(), "target-b");
  EXPECT_EQ(status(b_).enclaves(0).epoch(), 4u);
}

TEST_F(Migration, LargeStreamsNeedNoMoreThanTheWindow) {
  start_program(a_, "app", 0x77, 2000);
  const wire::MigrationInfo done = migrate(a_, b_).get();
  EXPECT_EQ(done.phase(), wire::DONE) << done.failure().what();
  EXPECT_EQ(done.records(), 2001u);
}

TEST_F(Migration, NothingIsLeftBehind) {
  start_program(a_);
  ASSERT_EQ(migrate(a_, b_).get().phase(), wire::DONE);
  wait_for("destroyed", "source-a");
  for (const auto& entry : std::filesystem::directory_iterator(a_.dir)) {
    EXPECT_NE(entry.path().extension(), ".stream") << entry.path();
    EXPECT_NE(entry.path().extension(), ".journal") << entry.path();
  }
}

TEST_F(Migration, PsAndStatusTellWhatIsThere) {
  start_program(a_, "first", 0x77);
  wire::Envelope request;
  request.mutable_ps_request();
  const wire::PsReply ps = call(a_, request).ps_reply();
  ASSERT_EQ(ps.enclaves_size(), 1);
  EXPECT_EQ(ps.enclaves(0).name(), "first");
  EXPECT_EQ(static_cast<unsigned char>(ps.enclaves(0).lineage()[0]), 0x77);
  EXPECT_EQ(ps.enclaves(0).gate(), 1u);
  EXPECT_TRUE(status(a_).agent_up());
  EXPECT_EQ(status(a_, "77000").enclaves_size(), 1);
}

TEST_F(Migration, IdsAreLineagePrefixNameOrPid) {
  const pid_t pid = start_program(a_);
  EXPECT_EQ(migrate(a_, b_, std::to_string(pid)).get().phase(), wire::DONE);
  EXPECT_EQ(migrate(b_, a_, "7700").get().phase(), wire::DONE);
}

TEST_F(Migration, RefusalsSayWhichKind) {
  start_program(a_);
  EXPECT_EQ(failing_call(a_, migrate_request("nobody", b_.listen)), wire::Failure::NOT_FOUND);
  EXPECT_EQ(failing_call(a_, migrate_request("77", b_.listen)), wire::Failure::NOT_FOUND) << "too short a prefix";
  EXPECT_EQ(failing_call(a_, migrate_request("app", "")), wire::Failure::BAD_REQUEST);
  wire::Envelope cancel;
  cancel.mutable_cancel_request()->set_id("app");
  EXPECT_EQ(failing_call(a_, cancel), wire::Failure::NOT_FOUND);
  wire::Envelope resume;
  resume.mutable_resume_request()->set_id("app");
  EXPECT_EQ(failing_call(a_, resume), wire::Failure::NOT_FOUND);
}

TEST_F(Migration, AnUnreachableTargetLeavesTheSourceAlone) {
  start_program(a_);
  const std::string was = b_.listen;
  kill(b_.daemon);
  const wire::MigrationInfo failed = migrate(a_, b_).get();
  EXPECT_EQ(failed.phase(), wire::FAILED);
  EXPECT_EQ(failed.failure().kind(), wire::Failure::UNREACHABLE);
  EXPECT_EQ(failed.failure().object(), was);
  EXPECT_EQ(the_one_running(), "source-a");
}

TEST_F(Migration, ATargetWithoutAgentIsSaidSo) {
  start_program(a_);
  kill(b_.agent);
  const wire::MigrationInfo failed = migrate(a_, b_).get();
  EXPECT_EQ(failed.phase(), wire::FAILED);
  EXPECT_EQ(failed.failure().kind(), wire::Failure::NO_AGENT);
  EXPECT_EQ(the_one_running(), "source-a");
}

TEST_F(Migration, OneMigrationAtATime) {
  start_program(a_);
  hold("source-a", "dump3");
  auto first = migrate(a_, b_);
  held("source-a", "dump3");
  EXPECT_EQ(failing_call(a_, migrate_request("app", b_.listen)), wire::Failure::BUSY);
  release("source-a", "dump3");
  EXPECT_EQ(first.get().phase(), wire::DONE);
}

TEST_F(Migration, ProgramsOutsideTheAllowedFoldersAreNotStarted) {
  start_program(a_);
  terminate(b_.daemon);
  start_daemon(b_, {"--allow-program", "/usr/bin"});
  const wire::MigrationInfo failed = migrate(a_, b_).get();
  EXPECT_EQ(failed.phase(), wire::FAILED);
  EXPECT_EQ(failed.failure().kind(), wire::Failure::REFUSED);
  EXPECT_EQ(the_one_running(), "source-a");
}

TEST_F(Migration, ALaunchedProgramMayHaveAPrefix) {
  start_program(a_);
  terminate(b_.daemon);
  start_daemon(b_, {"--launcher", "/usr/bin/env FAKE=1"});
  EXPECT_EQ(migrate(a_, b_).get().phase(), wire::DONE);
}

TEST_F(Migration, ATermLeavesGrantedProgramsRunning) {
  start_program(a_);
  ASSERT_EQ(migrate(a_, b_).get().phase(), wire::DONE);
  const Line opened = wait_for("opened", "target-b");
  EXPECT_EQ(terminate(b_.daemon), 0);
  EXPECT_EQ(::kill(opened.pid, 0), 0);
  start_daemon(b_);
  wait_registered(b_, "app");  // its link finds the new daemon: it can move on
  EXPECT_EQ(migrate(b_, a_).get().phase(), wire::DONE);
}

TEST_F(Migration, StopChildrenEndsThem) {
  terminate(b_.daemon);
  start_daemon(b_, {"--stop-children"});
  start_program(a_);
  ASSERT_EQ(migrate(a_, b_).get().phase(), wire::DONE);
  const Line opened = wait_for("opened", "target-b");
  EXPECT_EQ(terminate(b_.daemon), 0);
  wait_gone(opened.pid);
}

// --- Clients that misbehave ---------------------------------------------------------------------------------------

int connect_raw(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  return fd;
}

TEST_F(Migration, TheDaemonSurvivesGarbage) {
  start_program(a_);
  for (const std::string& bytes : {std::string(1000, '\xff'), std::string(4, '\0'), std::string("GET / HTTP/1.1\r\n"),
                                   std::string("\x08\0\0\0\x08\x01", 6)}) {
    const int fd = connect_raw(a_.socket());
    (void)!::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    ::close(fd);
  }
  EXPECT_EQ(migrate(a_, b_).get().phase(), wire::DONE);
}

TEST_F(Migration, ACommandThatIsInterruptedChangesNothing) {
  start_program(a_);
  hold("source-a", "dump3");
  const int fd = connect_raw(a_.socket());
  wire::Envelope hello;
  hello.mutable_hello()->set_version_min(kProtocolMin);
  hello.mutable_hello()->set_version_max(kProtocolMax);
  hello.mutable_hello()->set_role(wire::PEER_ROLE_CLI);
  wire::Envelope request = migrate_request("app", b_.listen);
  request.set_id(1);
  const std::string bytes = encode(hello).value() + encode(request).value();
  ASSERT_EQ(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  held("source-a", "dump3");
  ::close(fd);
  release("source-a", "dump3");
  wait_for("destroyed", "source-a");
  EXPECT_EQ(the_one_running(), "target-b");
}

TEST_F(Migration, AProcessThatSpeaksOutOfTurnIsCutOff) {
  const int fd = connect_raw(a_.socket());
  wire::Envelope hello;
  hello.mutable_hello()->set_version_min(kProtocolMin);
  hello.mutable_hello()->set_version_max(kProtocolMax);
  hello.mutable_hello()->set_role(wire::PEER_ROLE_PROCESS);
  wire::Envelope records;
  records.mutable_record()->set_local_id(5);
  wire::Envelope taken;
  taken.mutable_records_taken()->set_local_id(5);
  wire::Envelope nonsense;
  nonsense.mutable_ps_reply();
  const std::string bytes =
      encode(hello).value() + encode(records).value() + encode(taken).value() + encode(nonsense).value();
  ASSERT_EQ(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  char sink[4096];
  while (::recv(fd, sink, sizeof(sink), 0) > 0) {
  }
  ::close(fd);
  EXPECT_TRUE(status(a_).agent_up());
}

}  // namespace
}  // namespace sealift::daemon::testing
