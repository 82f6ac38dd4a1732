// Many threads inside, interrupted all the time: nothing of their state may change. Also run with --aex-hz.
#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "softsgx/tests/abi/call.h"
#include "softsgx/tests/abi/enclave/interface.h"
#include "softsgx/tests/abi/fault_catcher.h"
#include "softsgx/tests/abi/loader.h"

namespace third_party {
namespace {

constexpr unsigned kThreads = 8;
const int kKick = SIGRTMIN + 3;

RegisterPattern random_pattern(std::uint64_t seed) {
  RegisterPattern p;
  std::mt19937_64 g(seed);
  auto* bytes = reinterpret_cast<std::uint8_t*>(&p);
  for (std::size_t i = 0; i < sizeof p; ++i) bytes[i] = static_cast<std::uint8_t>(g());
  p.mxcsr = 0x9fc0 | static_cast<std::uint32_t>(g() & 0x6000);  // FZ, DAZ, a rounding mode, all masked
  p.pad = 0;
  return p;
}

class Stress : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(enclave.error(), 0) << enclave.failed_step();
    struct sigaction a {};
    a.sa_handler = [](int) {};
    a.sa_flags = SA_RESTART;
    sigaction(kKick, &a, nullptr);
  }
  TestEnclave enclave{EnclaveOptions{.threads = kThreads, .miscselect = sgx::miscselect::kExinfo}};
};

TEST_F(Stress, RegistersSurviveKicks) {
  std::vector<RegisterPattern> in(kThreads), out(kThreads);
  std::array<std::atomic<std::uint64_t>, kThreads> aexs{};
  std::atomic<std::uint32_t> stop = 0;
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    in[t] = random_pattern(t + 1);
    std::memset(&out[t], 0, sizeof out[t]);
    threads.emplace_back([&, t] {
      HoldCall h{reinterpret_cast<std::uint64_t>(&out[t]), reinterpret_cast<std::uint64_t>(&stop)};
      CallState s;
      Outcome o =
          enter(s, enclave.tcs(t), kHold, reinterpret_cast<std::uint64_t>(&in[t]), reinterpret_cast<std::uint64_t>(&h));
      while (o == kAtAep) {
        ++aexs[t];
        o = resume(s, enclave.tcs(t));
      }
    });
  }
  const auto all_were_interrupted = [&] {
    return std::all_of(aexs.begin(), aexs.end(), [](auto& n) { return n > 0; });
  };
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  for (int round = 0; round < 100 || (!all_were_interrupted() && std::chrono::steady_clock::now() < deadline);
       ++round) {
    for (std::thread& t : threads) pthread_kill(t.native_handle(), kKick);
    std::this_thread::yield();
  }
  stop = 1;
  for (std::thread& t : threads) t.join();
  for (unsigned t = 0; t < kThreads; ++t) {
    EXPECT_EQ(std::memcmp(&in[t], &out[t], sizeof(RegisterPattern)), 0) << "thread " << t;
    EXPECT_GT(aexs[t], 0u) << "thread " << t;
  }
}

TEST_F(Stress, NestedEntriesBetweenKicks) {
  // As a runtime quiesces: after an AEX enter at CSSA 1, then resume, while more kicks arrive at any point.
  std::atomic<std::uint32_t> stop = 0;
  std::atomic<std::uint64_t> inspections = 0, deep = 0;
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const std::uint64_t tcs = enclave.tcs(t);
      CallState s;
      Outcome o = enter(s, tcs, kCount, reinterpret_cast<std::uint64_t>(&stop));
      while (o == kAtAep) {
        sgx::GprSgx gpr{};
        o = enter(s, tcs, kInspect, reinterpret_cast<std::uint64_t>(&gpr));
        while (o == kAtAep) {  // the nested entry was interrupted: CSSA is 2, only ERESUME is possible
          ++deep;
          o = resume(s, tcs);
        }
        EXPECT_EQ(o, kExited);
        EXPECT_EQ(gpr.rip - enclave.base() < enclave.size(), true);
        ++inspections;
        o = resume(s, tcs);
      }
      EXPECT_EQ(o, kExited);
    });
  }
  // A hundred rounds; more of them where threads get to run late.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  for (int round = 0; round < 100 || (inspections <= kThreads && std::chrono::steady_clock::now() < deadline);
       ++round) {
    for (std::thread& t : threads) pthread_kill(t.native_handle(), kKick);
    std::this_thread::yield();
  }
  stop = 1;
  for (std::thread& t : threads) t.join();
  EXPECT_GT(inspections, kThreads);
}

TEST_F(Stress, FaultsAndKicksTogether) {
  FaultCatcher catcher;
  std::vector<std::thread> threads;
  std::atomic<int> running = 4;
  // A thread is kicked again only after it has got somewhere: kicks without pause would let none through.
  std::array<std::atomic<unsigned>, 4> steps{};
  std::array<unsigned, 4> kicked_at{};
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const std::uint64_t tcs = enclave.tcs(t);
      for (int i = 0; i < 200; ++i) {
        FaultCatcher::caught() = {};
        CallState s;
        Outcome o = enter(s, tcs, kUd2);
        while (o == kAtAep && FaultCatcher::caught().count == 0) o = resume(s, tcs);
        ASSERT_EQ(FaultCatcher::caught().trap, 6u);
        ++steps[t];
        // Interrupts may come between the fault and the skip; the frame of the fault stays the lowest.
        o = enter(s, tcs, kSkip, 2);
        while (o == kAtAep) o = resume(s, tcs);
        EXPECT_EQ(s.out_rdi & 0x800000ff, 0x80000006u);
        ++steps[t];
        o = resume(s, tcs);
        while (o == kAtAep) o = resume(s, tcs);
        ASSERT_EQ(o, kExited);
        ++steps[t];
      }
      --running;
    });
  }
  while (running != 0) {
    for (unsigned t = 0; t < threads.size(); ++t) {
      const unsigned now = steps[t].load();
      if (std::exchange(kicked_at[t], now) != now) pthread_kill(threads[t].native_handle(), kKick);
    }
    std::this_thread::yield();
  }
  for (std::thread& t : threads) t.join();
}

TEST_F(Stress, SegmentBaseSetInsideSurvivesKicks) {
  std::atomic<std::uint32_t> stop = 0;
  std::uint64_t fs = 0;
  std::thread thread(
      [&] { fs = run(enclave.tcs(), kSetBases, 0x123456789000, reinterpret_cast<std::uint64_t>(&stop)); });
  for (int i = 0; i < 200; ++i) {
    pthread_kill(thread.native_handle(), kKick);
    std::this_thread::yield();
  }
  stop = 1;
  thread.join();
  EXPECT_EQ(fs, 0x123456789000u);
}

// So often has the scheduler taken the CPU away from a thread of this process.
long preemptions(pid_t tid) {
  std::ifstream status("/proc/self/task/" + std::to_string(tid) + "/status");
  const std::string name = "nonvoluntary_ctxt_switches:";
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(name)) return std::stol(line.substr(name.size()));
  }
  return 0;
}

// Of those that the calling thread may use.
void stay_on_the_first_cpu() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return;
  int first = 0;
  while (!CPU_ISSET(first, &set)) ++first;
  CPU_ZERO(&set);
  CPU_SET(first, &set);
  sched_setaffinity(0, sizeof set, &set);
}

// No signal tells of these.
TEST_F(Stress, SegmentBasesSetInsideSurvivePreemption) {
  std::atomic<std::uint32_t> stop = 0;
  std::array<std::atomic<pid_t>, kThreads> tids{};
  std::array<std::uint64_t, kThreads> fs{};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      stay_on_the_first_cpu();
      tids[t] = gettid();
      fs[t] = run(enclave.tcs(t), kSetBases, 0x123456780000 + t, reinterpret_cast<std::uint64_t>(&stop));
    });
  }
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  const auto all = [&](long often) {
    return std::all_of(tids.begin(), tids.end(),
                       [&](const auto& tid) { return tid != 0 && preemptions(tid) >= often; });
  };
  while (!all(3) && std::chrono::steady_clock::now() < give_up) usleep(10'000);  // a bounded poll
  EXPECT_TRUE(all(3)) << "threads on one CPU were not preempted";
  stop = 1;
  for (std::thread& t : threads) t.join();
  for (unsigned t = 0; t < kThreads; ++t) EXPECT_EQ(fs[t], 0x123456780000u + t);
}

// Between an exception inside and its handler another thread may take the page away whose code raised it, as lost EPC
// does.
TEST_F(Stress, CodeThatIsTakenAwayMeanwhile) {
  struct sigaction resume {
  }, before{};
  resume.sa_handler = [](int) {};  // ERESUME finds out whether the page is there again
  sigaction(SIGSEGV, &resume, &before);
  constexpr std::size_t kPage = 4096;
  void* const page = reinterpret_cast<void*>(enclave.address_of("enclave_exit") / kPage * kPage);
  std::atomic<bool> stop = false;
  std::thread taker([&] {
    while (!stop) {
      mprotect(page, kPage, PROT_NONE);
      mprotect(page, kPage, PROT_READ | PROT_EXEC);
    }
  });
  for (unsigned i = 0; i < 3000; ++i) EXPECT_EQ(run(enclave.tcs(), kAdd, i, 2), i + 2);
  stop = true;
  taker.join();
  sigaction(SIGSEGV, &before, nullptr);
}

TEST_F(Stress, ThreadsComeAndGo) {
  for (int round = 0; round < 40; ++round) {
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] { EXPECT_EQ(run(enclave.tcs(t), kAdd, t, 1), t + 1); });
    }
    for (std::thread& t : threads) t.join();
  }
}

TEST_F(Stress, Computes) {
  // With --aex-hz and --single-step this is where the AEXs land.
  EXPECT_EQ(run(enclave.tcs(), kSum, 3000), 3000u * 3001 / 2);
}

}  // namespace
}  // namespace third_party
