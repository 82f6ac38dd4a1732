#include "tests/vm/hostile_broker.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "cli/client.h"
#include "daemon/failure.h"

namespace sealift::vm_test {

namespace {

namespace fs = std::filesystem;
using guest_test::bin;

// What sealiftd may grow by while a guest says what it likes: queues and one message of the largest kind.
constexpr std::size_t kMayGrow = std::size_t{96} << 20;

}  // namespace

void HostileBroker::SetUp() {
  EnclaveSteps::SetUp();
  if (IsSkipped()) return;
  host_ = &here();
  daemon_ = host_->daemon->pid();
  const std::string path = here().dir / "liar.sock";
  fs::remove(path);
  liar_ = std::make_unique<LyingBroker>(path, here().vm() / "org.sealift.broker.sock");
  add(here(), "", path);
  wait_enclaves(here());
  neighbour_ = std::make_unique<guest_test::Process>(
      std::vector<std::string>{bin("softsgx"), "run", here().machine(), "--", bin("guest_program"),
                               bin("guest.enclave"), "1", "0"},
      std::vector<std::string>{"PATH=/usr/bin:/bin", "SEALIFT_SOCKET=" + here().socket()}, here().dir / "neighbour.log",
      true);
  EXPECT_EQ(neighbour_->read_line(), "ready");
  neighbour_counted_ = neighbour_value();
  pages_ = daemon_pages();
}

void HostileBroker::TearDown() {
  liar_.reset();
  neighbour_.reset();
  EnclaveSteps::TearDown();
}

void HostileBroker::liar_goes() {
  liar_.reset();
  add(here());
  wait_enclaves(here());
}

void HostileBroker::lie_there() {
  const std::string path = there().dir / "liar.sock";
  fs::remove(path);
  liar_.reset();
  add(here());
  wait_enclaves(here());
  liar_ = std::make_unique<LyingBroker>(path, there().vm() / "org.sealift.broker.sock");
  add(there(), "", path);
}

std::uint64_t HostileBroker::neighbour_value() {
  neighbour_->write("state\n");
  std::istringstream in(neighbour_->read_line());
  EXPECT_EQ(neighbour_->read_line(), "end");
  std::string word;
  std::uint64_t acked = 0, value = 0;
  std::size_t number = 0;
  in >> word >> number >> word >> acked >> word >> value;
  EXPECT_GE(value, acked);
  return value;
}

std::size_t HostileBroker::daemon_pages() const {
  std::ifstream file("/proc/" + std::to_string(daemon_) + "/statm");
  std::size_t all = 0, resident = 0;
  file >> all >> resident;
  return resident;
}

void HostileBroker::expect_host_unharmed() {
  EXPECT_TRUE(host_->daemon->alive() && host_->daemon->pid() == daemon_) << "sealiftd has died";
  EXPECT_TRUE(host_->agent_up());
  EXPECT_LT((daemon_pages() - std::min(pages_, daemon_pages())) * 4096, kMayGrow);
  EXPECT_EQ(guest_test::text_of(host_->dir / "sealiftd.log").find("agent is gone"), std::string::npos);
  wire::Envelope request;
  request.mutable_ps_request();
  const wire::PsReply known = cli::Client(host_->socket()).call(std::move(request)).ps_reply();
  EXPECT_EQ(
      std::count_if(known.enclaves().begin(), known.enclaves().end(), [](const auto& e) { return e.guest().empty(); }),
      1)
      << "the neighbour is not known any more";
  EXPECT_TRUE(eventually([this] { return neighbour_value() > neighbour_counted_; }));
}

void HostileBroker::expect_refused(VmCall& call, std::uint64_t newer, std::uint64_t newest) {
  const std::string line = daemon::to_line(call.end().failure());
  EXPECT_TRUE(std::all_of(line.begin(), line.end(), [](unsigned char c) { return c >= ' ' && c < 127; })) << line;
  EXPECT_LT(line.size(), 1000u) << line;
  expect_host_unharmed();
  liar_goes();
  expect_back(call, newer, newest);
}

void HostileBroker::tell_of_rows(std::function<void(wire::GuestReport&)> change) {
  liar().when_guest_speaks([this, change = std::move(change)](wire::Envelope& message) {
    if (!message.has_guest_report()) return true;
    wire::GuestReport& report = *message.mutable_guest_report();
    const std::lock_guard lock(mutex_);
    for (const wire::GuestRow& row : report.rows()) rows_[row.id()] = row;
    if (change) change(report);
    return true;
  });
}

void HostileBroker::answer_with_all(const wire::Envelope& command, wire::GuestRow::State state) {
  wire::Envelope reply;
  reply.set_id(command.id());
  reply.set_reply(true);
  wire::GuestReport& report = *reply.mutable_guest_report();
  report.set_whole(true);
  const std::lock_guard lock(mutex_);
  for (const auto& [id, row] : rows_) {
    *report.add_rows() = row;
    report.mutable_rows()->rbegin()->set_state(state);
  }
  liar().say(std::move(reply));
}

void HostileBroker::instead_of(Op::Op op, std::function<void(const wire::Envelope&)> instead) {
  liar().when_host_speaks([op, instead = std::move(instead)](wire::Envelope& message) {
    if (!message.has_guest_command() || message.guest_command().op() != op) return true;
    instead(message);
    return false;
  });
}

void HostileBroker::wait_answers(std::size_t count) {
  EXPECT_TRUE(eventually([&] { return liar().answers().size() >= count; }))
      << liar().answers().size() << " answers to " << count;
}

void HostileBroker::wait_heard() {
  liar().forget();
  wire::Envelope question;
  question.mutable_agent_local_poll()->set_session(0);
  liar().ask(std::move(question));
  wait_answers(1);
}

}  // namespace sealift::vm_test
