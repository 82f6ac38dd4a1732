// EPC that is lost while a process uses it: the contents of its section are exchanged for another machine's, as by a
// VM's move. Run by on_section.sh, which knows how.
#include <asm/sgx.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "softsgx/tests/abi/call.h"
#include "softsgx/tests/abi/enclave/interface.h"
#include "softsgx/tests/abi/fault_catcher.h"
#include "softsgx/tests/abi/loader.h"

namespace third_party {
namespace {

constexpr std::uint64_t kPfecSgx = 0x8000;
constexpr unsigned kPageFault = 14;

std::string command(const char* variable) {
  const char* text = std::getenv(variable);
  return text ? text : "";
}

bool exchange() {
  return std::system((command("SOFTSGX_TEST_EXCHANGE") + " " + std::to_string(getpid())).c_str()) == 0;
}

// A number in what `softsgx info --json` prints of the section.
long info(const std::string& name) {
  FILE* pipe = popen(command("SOFTSGX_TEST_INFO").c_str(), "r");
  std::string text;
  std::array<char, 512> buffer;
  while (pipe && std::fgets(buffer.data(), buffer.size(), pipe)) text += buffer.data();
  if (pipe) pclose(pipe);
  const std::size_t at = text.find("\"" + name + "\": ");
  return at == std::string::npos ? -1 : std::atol(text.c_str() + at + name.size() + 4);
}

void expect_epc_fault() {
  const Caught& c = FaultCatcher::caught();
  EXPECT_EQ(c.signal, SIGSEGV);
  EXPECT_EQ(c.code, SEGV_ACCERR);
  EXPECT_EQ(c.trap, kPageFault);
  EXPECT_EQ(c.error & kPfecSgx, kPfecSgx);
}

class EpcLoss : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_FALSE(command("SOFTSGX_TEST_EXCHANGE").empty()) << "run by on_section.sh";
    ASSERT_EQ(enclave->error(), 0) << enclave->failed_step();
  }
  FaultCatcher catcher;
  std::unique_ptr<TestEnclave> enclave = std::make_unique<TestEnclave>(EnclaveOptions{.threads = 2});
};

TEST_F(EpcLoss, EnteringIsAPageFaultOfTheEpcm) {
  ASSERT_EQ(run(enclave->tcs(), kAdd, 1, 2), 3u);
  ASSERT_TRUE(exchange());
  CallState s;
  EXPECT_EQ(enter(s, enclave->tcs(), kAdd, 1, 2), kFixedUp);
  expect_epc_fault();
  EXPECT_EQ(FaultCatcher::caught().address, enclave->tcs());
  EXPECT_EQ(resume(s, enclave->tcs()), kFixedUp);
  expect_epc_fault();
  EXPECT_EQ(FaultCatcher::caught().count, 2);
}

TEST_F(EpcLoss, AThreadInsideFaultsAtItsNextInstruction) {
  std::atomic<std::uint32_t> never = 0;
  Outcome outcome = kExited, again = kExited;
  Caught caught, caught_again;
  CallState s;
  std::thread inside([&] {
    outcome = enter(s, enclave->tcs(), kCount, reinterpret_cast<std::uint64_t>(&never));
    while (outcome == kAtAep && FaultCatcher::caught().count == 0) outcome = resume(s, enclave->tcs());
    caught = FaultCatcher::caught();
    if (outcome == kAtAep) again = resume(s, enclave->tcs());
    caught_again = FaultCatcher::caught();
  });
  while (info("threads_inside") != 1) std::this_thread::yield();
  ASSERT_TRUE(exchange());
  inside.join();
  EXPECT_EQ(caught.signal, SIGSEGV);
  EXPECT_EQ(caught.trap, kPageFault);
  EXPECT_EQ(caught.error & kPfecSgx, kPfecSgx);
  if (outcome == kAtAep) {  // it was inside, and not at an AEP, when the exchange came
    EXPECT_EQ(caught.rip, reinterpret_cast<std::uint64_t>(abi_call_aep));
    EXPECT_EQ(caught.rbx, enclave->tcs());
    EXPECT_GE(caught.address, enclave->base());
    EXPECT_LT(caught.address, enclave->base() + enclave->size());
    EXPECT_EQ(again, kFixedUp);
    EXPECT_EQ(caught_again.count, 2);
  }
  EXPECT_EQ(info("threads_inside"), 0) << "the new section counted a thread of the old one";
}

TEST_F(EpcLoss, IoctlsAnswerAsLinuxDoes) {
  TestEnclave half(EnclaveOptions{.initialise = false});
  ASSERT_EQ(half.error(), 0) << half.failed_step();
  ASSERT_TRUE(exchange());
  alignas(4096) static std::uint8_t page[4096];
  constexpr std::uint64_t kRw = sgx::secinfo::type(sgx::PageType::kReg) | sgx::secinfo::kR | sgx::secinfo::kW;
  EXPECT_EQ(half.add(half.end_offset(), page, sizeof page, kRw, false), EIO);
  EXPECT_EQ(half.init(), EIO);
  sgx::Secs secs{};
  sgx_enclave_create create{reinterpret_cast<__u64>(&secs)};
  EXPECT_EQ(ioctl(half.fd(), SGX_IOC_ENCLAVE_CREATE, &create), -1);
  EXPECT_EQ(errno, EINVAL);
  sgx_enclave_restrict_permissions restrict {};
  restrict.length = 4096;
  EXPECT_EQ(ioctl(enclave->fd(), SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS, & restrict), -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(enclave->init(), EINVAL) << "initialised long ago";
}

TEST_F(EpcLoss, TheHostsOwnAccessFaultsToo) {
  ASSERT_TRUE(exchange());
  CallState s;
  ASSERT_EQ(enter(s, enclave->tcs(), kAdd), kFixedUp);  // now the process knows
  // A mapping is still there, without a page behind it.
  int pipes[2];
  ASSERT_EQ(pipe(pipes), 0);
  EXPECT_EQ(write(pipes[1], reinterpret_cast<void*>(enclave->base()), 1), -1);
  EXPECT_EQ(errno, EFAULT);
  close(pipes[0]);
  close(pipes[1]);
}

TEST_F(EpcLoss, ANewEnclaveRunsBesideTheLostOneAndInItsPlace) {
  ASSERT_TRUE(exchange());
  TestEnclave beside(EnclaveOptions{});
  ASSERT_EQ(beside.error(), 0) << beside.failed_step();
  EXPECT_EQ(run(beside.tcs(), kAdd, 20, 22), 42u);
  CallState s;
  EXPECT_EQ(enter(s, enclave->tcs(), kAdd, 1, 2), kFixedUp);
  expect_epc_fault();
  const std::uint64_t base = enclave->base(), before = enclave->tcs();
  enclave->unmap();
  TestEnclave in_place(EnclaveOptions{.base = base});
  ASSERT_EQ(in_place.error(), 0) << in_place.failed_step();
  EXPECT_EQ(in_place.tcs(), before);
  EXPECT_EQ(run(in_place.tcs(), kAdd, 30, 33), 63u);
  enclave.reset();  // the old descriptor's close must not take the new pages
  EXPECT_EQ(run(in_place.tcs(), kAdd, 40, 44), 84u);
  EXPECT_EQ(run(beside.tcs(), kAdd, 50, 55), 105u);
}

TEST_F(EpcLoss, WhatIsLostLeavesNoTraceInTheNewSection) {
  const long all = info("epc_bytes");
  EXPECT_LT(info("epc_free_bytes"), all);
  auto half = std::make_unique<TestEnclave>(EnclaveOptions{.initialise = false});
  ASSERT_TRUE(exchange());
  CallState s;
  EXPECT_EQ(enter(s, enclave->tcs(), kAdd, 1, 2), kFixedUp);
  EXPECT_EQ(half->init(), EIO);
  half.reset();
  enclave.reset();
  EXPECT_EQ(info("epc_free_bytes"), all);
  EXPECT_EQ(info("enclaves"), 0);
}

// One thread's share of the next test: builds, computes, takes down, over and over; every result must be right or the
// enclave lost.
struct Worker {
  std::uint64_t right_since_exchange = 0, lost = 0, wrong = 0;

  void turn() {
    TestEnclave e(EnclaveOptions{});
    if (e.error() != 0) {
      EXPECT_TRUE(e.error() == EIO || e.error() == ENOMEM) << e.failed_step() << ": " << std::strerror(e.error());
      ++lost;
      return;
    }
    for (std::uint64_t i = 1; i <= 50; ++i) {
      FaultCatcher::caught() = {};
      CallState s;
      Outcome o = enter(s, e.tcs(), kSum, i);
      while (o == kAtAep && FaultCatcher::caught().count == 0) o = resume(s, e.tcs());
      if (o != kExited) {
        const Caught& c = FaultCatcher::caught();
        if ((c.error & kPfecSgx) == 0) {
          ADD_FAILURE() << "signal " << c.signal << " trap " << c.trap << " error " << c.error << " address "
                        << c.address;
        }
        ++lost;
        return;
      }
      if (s.out_rdi != i * (i + 1) / 2) ++wrong;
      ++right_since_exchange;
    }
  }
};

TEST_F(EpcLoss, ThreadsThatBuildAndRunSurviveExchangesAtAnyMoment) {
  constexpr unsigned kThreads = 4;
  constexpr int kExchanges = 12;
  enclave.reset();
  std::array<Worker, kThreads> workers;
  std::array<std::atomic<std::uint64_t>, kThreads> turns{};
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      while (!stop) {
        workers[t].turn();
        ++turns[t];
      }
      // After the last exchange everything must work again.
      workers[t].right_since_exchange = 0;
      workers[t].turn();
    });
  }
  for (int i = 0; i < kExchanges; ++i) {
    const std::uint64_t seen = turns[0];
    while (turns[0] == seen) std::this_thread::yield();
    EXPECT_TRUE(exchange());
  }
  stop = true;
  for (std::thread& t : threads) t.join();
  std::uint64_t lost = 0;
  for (const Worker& w : workers) {
    EXPECT_EQ(w.wrong, 0u);
    EXPECT_EQ(w.right_since_exchange, 50u);
    lost += w.lost;
  }
  EXPECT_GT(lost, 0u) << "no exchange hit anything: the test shows nothing";
  EXPECT_EQ(info("enclaves"), 0);
  EXPECT_EQ(info("epc_free_bytes"), info("epc_bytes"));
}

// Another process that has not run since the exchange: its thread inside must not go on in what is built there now.
class EpcLossPeer : public EpcLoss {};

TEST_F(EpcLossPeer, FaultsWhenItRunsAgain) {
  if (std::getenv("SOFTSGX_TEST_PEER") == nullptr) GTEST_SKIP() << "runs as the other process of EpcLoss's last test";
  std::atomic<std::uint32_t> never = 0;
  CallState s;
  Outcome o = enter(s, enclave->tcs(), kCount, reinterpret_cast<std::uint64_t>(&never));
  while (o == kAtAep && FaultCatcher::caught().count == 0) o = resume(s, enclave->tcs());
  expect_epc_fault();
}

// This program once more, running the test above; its output on `out`.
pid_t start_peer(int& out) {
  int pipes[2];
  if (pipe(pipes) != 0) return -1;
  std::string name = "peer", filter = "--gtest_filter=EpcLossPeer.*", variable = "SOFTSGX_TEST_PEER=1";
  std::vector<char*> arguments = {name.data(), filter.data(), nullptr}, environment = {variable.data()};
  for (char** e = environ; *e != nullptr; ++e) environment.push_back(*e);
  environment.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, pipes[1], STDOUT_FILENO);
  pid_t pid = -1;
  if (posix_spawn(&pid, "/proc/self/exe", &actions, nullptr, arguments.data(), environment.data()) != 0) pid = -1;
  posix_spawn_file_actions_destroy(&actions);
  close(pipes[1]);
  out = pipes[0];
  return pid;
}

bool has_pending_interrupt(pid_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("ShdPnd:")) return (std::strtoull(line.c_str() + 7, nullptr, 16) >> 63 & 1) != 0;
  }
  return false;
}

TEST_F(EpcLoss, ABuilderWaitsForAProcessThatHasNotNoticed) {
  constexpr auto kPatience = std::chrono::seconds(8);  // less than a builder waits
  enclave.reset();
  int out = -1;
  const pid_t peer = start_peer(out);
  ASSERT_GT(peer, 0);
  while (info("threads_inside") != 1) std::this_thread::yield();
  ASSERT_EQ(kill(peer, SIGSTOP), 0);
  int status = 0;
  ASSERT_EQ(waitpid(peer, &status, WUNTRACED), peer);
  ASSERT_TRUE(WIFSTOPPED(status));
  ASSERT_TRUE(exchange());

  std::atomic<bool> built = false;
  std::uint64_t sum = 0;
  std::thread builder([&] {
    TestEnclave e(EnclaveOptions{});
    EXPECT_EQ(e.error(), 0) << e.failed_step();
    built = true;
    sum = run(e.tcs(), kAdd, 1, 2);
  });
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!has_pending_interrupt(peer) && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  EXPECT_TRUE(has_pending_interrupt(peer)) << "nobody told the other process";
  EXPECT_FALSE(built);
  kill(peer, SIGCONT);
  builder.join();
  EXPECT_EQ(sum, 3u);
  ASSERT_EQ(waitpid(peer, &status, 0), peer);
  std::array<char, 4096> text{};
  const ssize_t n = read(out, text.data(), text.size() - 1);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << (n > 0 ? text.data() : "");
  close(out);
}

}  // namespace
}  // namespace third_party
