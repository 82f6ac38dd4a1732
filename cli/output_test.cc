#include "cli/output.h"

#include <gtest/gtest.h>

#include <sstream>

#include "cli/exit_codes.h"

namespace sealift::cli {
namespace {

wire::MigrationInfo info(wire::Phase phase) {
  wire::MigrationInfo out;
  out.set_name("app");
  out.set_peer("b:7419");
  out.set_lineage(std::string(16, '\x3f'));
  out.set_phase(phase);
  out.set_bytes_done(512);
  out.set_bytes_total(1024);
  out.set_bytes_per_second(2048);
  out.set_seconds_left(0.25);
  return out;
}

TEST(Human, Bytes) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1536), "1.5 KiB");
  EXPECT_EQ(human_bytes(3.0 * 1024 * 1024 * 1024), "3.0 GiB");
}

TEST(Human, Seconds) {
  EXPECT_EQ(human_seconds(0.0012), "1.2 ms");
  EXPECT_EQ(human_seconds(0.85), "850 ms");
  EXPECT_EQ(human_seconds(1.234), "1.23 s");
  EXPECT_EQ(human_seconds(125), "2 min 5 s");
}

TEST(Progress, ALineForEachPhaseWithoutATerminal) {
  std::ostringstream out;
  ProgressPrinter progress(out, false, 80);
  for (const wire::Phase phase : {wire::PREPARE, wire::PREPARE, wire::STREAM, wire::STREAM, wire::DONE}) {
    progress.show(info(phase));
  }
  progress.finish();
  EXPECT_EQ(out.str(), "app: prepare\napp: stream\napp: done\n");
}

TEST(Progress, OneLineThatFitsOnATerminal) {
  std::ostringstream out;
  ProgressPrinter progress(out, true, 60);
  progress.show(info(wire::STREAM));
  const std::string line = out.str();
  EXPECT_EQ(line.substr(0, 7), "\rstream");
  EXPECT_NE(line.find("############............"), std::string::npos);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_LE(line.size(), 60u + 4);
}

TEST(Outcome, SaysWhereItRunsAndHowLongItStopped) {
  std::ostringstream out;
  wire::MigrationInfo done = info(wire::DONE);
  done.set_downtime_seconds(0.031);
  done.set_total_seconds(1.5);
  print_outcome(out, done);
  EXPECT_EQ(out.str(), "app runs on b:7419: 512 B in 1.50 s, downtime 31 ms\n");
}

TEST(Outcome, FailuresAreOneLine) {
  std::ostringstream out;
  wire::MigrationInfo failed = info(wire::FAILED);
  failed.mutable_failure()->set_what("cannot connect");
  failed.mutable_failure()->set_object("b:7419");
  failed.mutable_failure()->set_advice("start it");
  print_outcome(out, failed);
  EXPECT_EQ(out.str(), "app: failed: cannot connect: b:7419: start it\n");
}

TEST(Json, HasWhatScriptsNeed) {
  const nlohmann::json json = to_json(info(wire::STREAM));
  EXPECT_EQ(json["lineage"], std::string("3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f"));
  EXPECT_EQ(json["phase"], "stream");
  EXPECT_EQ(json["direction"], "out");
  EXPECT_FALSE(json.contains("failure"));
}

TEST(Json, UnknownTimeLeftIsNull) {
  wire::MigrationInfo unknown = info(wire::STREAM);
  unknown.set_seconds_left(-1);
  EXPECT_TRUE(to_json(unknown)["seconds_left"].is_null());
}

TEST(Table, ColumnsLineUp) {
  std::ostringstream out;
  wire::EnclaveRow row;
  row.set_lineage(std::string(16, '\x01'));
  row.set_name("a-long-name-for-an-enclave");
  row.set_pid(4711);
  row.set_gate(1);
  print_enclaves(out, {row});
  std::istringstream lines(out.str());
  std::string head;
  std::string body;
  std::getline(lines, head);
  std::getline(lines, body);
  EXPECT_EQ(head.find("PID"), body.find("4711"));
  EXPECT_EQ(body.substr(0, 12), "010101010101");
}

TEST(ExitCodes, EveryOutcomeHasItsOwn) {
  EXPECT_EQ(exit_code(info(wire::DONE)), kExitOk);
  EXPECT_EQ(exit_code(info(wire::CANCELLED)), kExitCancelled);
  EXPECT_EQ(exit_code(info(wire::RESUMED)), kExitResumed);
  EXPECT_EQ(exit_code(info(wire::STRANDED)), kExitStranded);
  EXPECT_EQ(exit_code(info(wire::LOST)), kExitLost);
  EXPECT_EQ(exit_code(info(wire::FAILED)), kExitFailed);
  wire::MigrationInfo refused = info(wire::FAILED);
  refused.mutable_failure()->set_kind(wire::Failure::REFUSED);
  EXPECT_EQ(exit_code(refused), kExitRefused);
  EXPECT_EQ(exit_code(wire::Failure::AMBIGUOUS), kExitNotFound);
  EXPECT_EQ(exit_code(wire::Failure::NO_AGENT), kExitUnreachable);
}

}  // namespace
}  // namespace sealift::cli
