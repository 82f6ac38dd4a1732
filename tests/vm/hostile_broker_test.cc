// A guest's broker that lies, on a real VM: whatever it says, the daemon and its other guests are not harmed, no
// enclave runs twice, the VM is on one side, and when the liar is gone all enclaves run.
#include <csignal>
#include <random>

#include "daemon/failure.h"
#include "tests/vm/hostile_broker.h"

namespace sealift::vm_test {
namespace {

std::string random_bytes(std::size_t count) {
  static std::mt19937 engine(20171);  // the same in each run
  std::string out(count, '\0');
  for (char& each : out) each = static_cast<char>(engine());
  return out;
}

wire::Envelope report_of(std::uint64_t first_id, std::size_t rows, std::size_t name) {
  wire::Envelope message;
  for (std::size_t i = 0; i < rows; ++i) {
    wire::GuestRow& row = *message.mutable_guest_report()->add_rows();
    row.set_id(first_id + i);
    row.set_name(std::string(name, 'x'));
    row.set_state(wire::GuestRow::COMMITTED);
    row.set_attempt(random_bytes(16));
  }
  return message;
}

// --- Lies about enclaves ------------------------------------------------------------------------------------------

TEST_F(HostileBroker, SaysCommittedWithoutACheckpoint) {
  wait_there();
  tell_of_rows();
  instead_of(Op::CHECKPOINT, [this](const auto& command) { answer_with_all(command, wire::GuestRow::COMMITTED); });
  const auto call = move(here(), there());
  expect_refused(*call, 0);
  expect_moves_on();
}

TEST_F(HostileBroker, SaysRunningOfEnclavesThatStandStill) {
  const auto call = move_and_stand_after_the_commit();
  tell_of_rows([](wire::GuestReport& report) {
    for (wire::GuestRow& row : *report.mutable_rows()) row.set_state(wire::GuestRow::RUNNING);
  });
  instead_of(Op::ABORT, [this](const auto& command) { answer_with_all(command, wire::GuestRow::RUNNING); });
  EXPECT_EQ(cancel(here()).phase(), wire::VM_BACK);
  expect_refused(*call, 1);
  expect_moves_on();
}

// The same on the target, whose daemon is told to let them go on.
TEST_F(HostileBroker, SaysRunningOnTheTarget) {
  wait_there();
  lie_there();
  tell_of_rows();
  instead_of(Op::RESUME, [this](const auto& command) { answer_with_all(command, wire::GuestRow::RUNNING); });
  const wire::VmMoveInfo done = move(here(), there())->end();
  EXPECT_EQ(done.phase(), wire::VM_DONE) << daemon::to_line(done.failure());
  expect_host_unharmed();
  arrived_there();
  liar_goes();
  expect_all_run_here(1);
  expect_moves_on();
}

TEST_F(HostileBroker, NamesOtherAttemptsAndAnotherLineage) {
  wait_there();
  tell_of_rows([](wire::GuestReport& report) {
    for (wire::GuestRow& row : *report.mutable_rows()) {
      row.set_lineage(random_bytes(16));
      if (!row.attempt().empty()) row.set_attempt(random_bytes(16));
    }
  });
  const auto call = move(here(), there());
  expect_refused(*call, 0, 1);
  expect_moves_on();
}

TEST_F(HostileBroker, InventsThousandsOfEnclaves) {
  const unsigned sessions = liar().sessions();
  liar().say(report_of(1'000, 50'000, 16));
  EXPECT_TRUE(eventually([&] { return liar().sessions() > sessions; })) << "it was not hung up on";
  wait_enclaves(here());
  expect_host_unharmed();
  // Few enough, but long: 128 MiB.
  for (std::uint64_t i = 0; i < 1'000; ++i) liar().say(report_of(1'000 + i, 1, 128 << 10));
  wait_heard();
  expect_host_unharmed();
  wire::Envelope gone;
  for (std::uint64_t i = 0; i < 1'000'000; ++i) gone.mutable_guest_report()->add_gone(i);
  const unsigned before = liar().sessions();
  liar().say(std::move(gone));
  EXPECT_TRUE(eventually([&] { return liar().sessions() > before; })) << "it was not hung up on";
  wait_enclaves(here());
  expect_host_unharmed();
  // And when it matters.
  wait_there();
  tell_of_rows([](wire::GuestReport& report) {
    if (report.whole()) report.MergeFrom(report_of(1'000, 500, 8).guest_report());
  });
  const auto call = move(here(), there());
  expect_refused(*call, 0, 1);
  expect_moves_on();
}

// Its rows are well-formed, and ever new.
TEST_F(HostileBroker, InventsNewAttemptsWithoutEnd) {
  const auto call = stand_in_precopy();
  for (std::uint64_t i = 0; i < 20'000; ++i) liar().say(report_of(1'000 + i % 8, 100, 8));
  wait_heard();
  expect_host_unharmed();
  EXPECT_EQ(cancel(here()).phase(), wire::VM_BACK);
  expect_refused(*call, 0);
  expect_moves_on();
}

TEST_F(HostileBroker, NeverAnswersACheckpoint) {
  wait_there();
  instead_of(Op::CHECKPOINT, [](const auto&) {});
  const auto call = move(here(), there());
  EXPECT_NE(call->end().failure().what().find("broker"), std::string::npos) << daemon::to_line(call->end().failure());
  expect_refused(*call, 0);
  expect_moves_on();
}

TEST_F(HostileBroker, FailsInManyLines) {
  wait_there();
  instead_of(Op::PREPARE, [this](const auto& command) {
    wire::Envelope reply;
    reply.set_id(command.id());
    reply.set_reply(true);
    wire::Failure& failure = *reply.mutable_guest_report()->mutable_failure();
    failure.set_kind(wire::Failure::REFUSED);
    failure.set_errc(0xffff'ffff);
    for (auto* text : {failure.mutable_what(), failure.mutable_object(), failure.mutable_advice()}) {
      *text = "all is well\n\x1b[2J" + std::string(100'000, '\a');
    }
    liar().say(std::move(reply));
  });
  const auto call = move(here(), there());
  expect_refused(*call, 0);
  expect_moves_on();
}

// --- The agent ----------------------------------------------------------------------------------------------------

// All that an honest broker has said for one move, said again during the next one and after it.
TEST_F(HostileBroker, ReplaysWhatWasSaid) {
  {
    const auto call = move_and_stand_after_the_commit();
    EXPECT_EQ(cancel(here()).phase(), wire::VM_BACK);
    expect_back(*call, 1);
  }
  const auto said = liar().heard_of_guest();
  const auto replay = [&] {
    liar().forget();
    std::size_t asked = 0, grants = 0;
    for (const wire::Envelope& message : said) {
      if (message.reply() || message.id() == 0) continue;
      grants += message.has_agent_request_grant() ? 1 : 0;
      liar().ask(message);
      ++asked;
    }
    EXPECT_GE(grants, kEnclaves);
    wait_answers(asked);
    for (const wire::Envelope& answer : liar().answers()) {
      EXPECT_FALSE(answer.has_agent_result() && answer.agent_result().errc() == 0) << "done once more";
    }
  };
  replay();
  const auto call = stand_in_precopy();
  replay();
  EXPECT_EQ(cancel(here()).phase(), wire::VM_BACK);
  expect_refused(*call, 0);
  expect_moves_on();
}

// Hellos, tickets, notices, requests for grants: each with a changed byte first, then as it is, then both once more.
TEST_F(HostileBroker, SaysEverythingTwiceAndChanged) {
  const auto call = move_and_stand_after_the_commit();
  std::atomic<std::size_t> asked{0};
  liar().when_guest_speaks([&](wire::Envelope& message) {
    if (message.id() == 0 || message.reply()) return true;
    wire::Envelope changed = message;
    const auto flip = [](std::string& bytes) {
      if (!bytes.empty()) bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
    };
    if (message.has_agent_local_hello()) flip(*changed.mutable_agent_local_hello()->mutable_hello());
    if (message.has_agent_local_message()) flip(*changed.mutable_agent_local_message()->mutable_sealed());
    if (message.has_agent_request_grant()) changed.mutable_agent_request_grant()->set_session(~std::uint64_t{0});
    liar().ask(changed);
    liar().say(message);
    liar().ask(message);
    liar().ask(changed);
    asked += 3;
    return false;
  });
  EXPECT_EQ(cancel(here()).phase(), wire::VM_BACK);
  (void)call->end();
  expect_all_run_here(1);
  wait_answers(asked);
  // And from prepare to the ticket; the grant is asked for on the other host.
  wait_there();
  const auto again = move(here(), there());
  expect_done(*again);
  expect_host_unharmed();
  expect_moves_on();
}

// All of it is under way at once, as the agent sleeps.
TEST_F(HostileBroker, AsksTheAgentFasterThanItAnswers) {
  wait_there();
  const auto call = stand_in_precopy();
  std::uint64_t session = 0;
  for (const wire::Envelope& message : liar().heard_of_guest()) {
    if (message.has_agent_local_message()) session = message.agent_local_message().session();
  }
  ASSERT_NE(session, 0u);
  wire::Envelope large;
  large.mutable_agent_local_message()->set_session(session);
  large.mutable_agent_local_message()->set_sealed(std::string(4 << 20, 'x'));
  constexpr std::size_t kLarge = 50, kSmall = 50'000;
  const EnclaveHost& host = here();
  host.agent->signal(SIGSTOP);
  for (std::size_t i = 0; i < kLarge; ++i) liar().ask(large);
  wire::Envelope small;
  small.mutable_agent_local_poll()->set_session(session);
  for (std::size_t i = 0; i < kSmall; ++i) liar().ask(small);
  wait_answers((kLarge + kSmall) / 2);  // refused, as too much is under way
  host.agent->signal(SIGCONT);
  wait_answers(kLarge + kSmall);
  expect_host_unharmed();
  EXPECT_EQ(cancel(here()).phase(), wire::VM_BACK);
  expect_refused(*call, 0);
  expect_moves_on();
}

// --- What is not even a message -----------------------------------------------------------------------------------

TEST_F(HostileBroker, SendsGarbage) {
  const std::string oversize("\xff\xff\xff\x7f", 4), empty(4, '\0'), half("\x10\0\0\0half", 8);
  wire::Envelope unasked;
  unasked.set_id(4711);
  unasked.set_reply(true);
  unasked.mutable_guest_report()->set_whole(true);
  wire::Envelope out_of_place;
  out_of_place.mutable_vm_migrate()->set_name("web");
  for (const std::string& lie : {"GET / HTTP/1.1\r\n\r\n" + random_bytes(5'000), oversize, empty,
                                 *daemon::encode(unasked), *daemon::encode(out_of_place), half + random_bytes(64)}) {
    const unsigned sessions = liar().sessions();
    liar().say_bytes(lie);
    EXPECT_TRUE(eventually([&] { return liar().sessions() > sessions; }))
        << "it was not hung up on: " << to_hex(lie.substr(0, 32));
    wait_enclaves(here());
  }
  // Below sessions: no frames, half a frame, a frame of another session, one of a kind that there is not.
  using daemon::channel::Frame;
  using daemon::channel::Kind;
  const std::string frame = daemon::channel::encode(Frame{Kind::kData, 7, std::string(4'000, 'x')});
  for (const std::string& lie : {random_bytes(100'000), frame.substr(0, 2'000), frame, std::string(64'000, 'S'),
                                 daemon::channel::encode(Frame{static_cast<Kind>(99), 1, "x"}),
                                 daemon::channel::encode(Frame{Kind::kAccept, 7, ""})}) {
    liar().write_to_channel(lie);
  }
  wait_enclaves(here());
  expect_host_unharmed();
  wait_there();
  const auto call = move(here(), there());  // the liar tells the truth meanwhile
  expect_done(*call);
}

TEST_F(HostileBroker, SendsHalfAMessageAndNoMore) {
  wait_there();
  liar().when_guest_speaks([](wire::Envelope&) { return false; });
  liar().say_bytes(std::string("\x10\0\0\0half", 8));
  const auto call = move(here(), there());
  expect_refused(*call, 0);
  expect_moves_on();
}

}  // namespace
}  // namespace sealift::vm_test
