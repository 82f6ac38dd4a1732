// ENCLU that softsgx has patched into a jump: `Patched` where it may, `Unpatched` where it must not. Run with the
// variant of the program that lays its ENCLUs out for it; every other suite runs with that one too.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <barrier>
#include <cstring>
#include <thread>
#include <vector>

#include "sgx/enclu_site.h"
#include "softsgx/tests/abi/call.h"
#include "softsgx/tests/abi/enclave/interface.h"
#include "softsgx/tests/abi/fault_catcher.h"
#include "softsgx/tests/abi/loader.h"

namespace third_party {
namespace {

// The first bytes of the site whose ENCLU is at `enclu`.
std::uint16_t head(std::uint64_t enclu) {
  std::uint16_t bytes;
  std::memcpy(&bytes, reinterpret_cast<const void*>(enclu - SGX_ENCLU_SITE_INSN), sizeof bytes);
  return bytes;
}
constexpr std::uint16_t kNop = 0x9066, kJump = 0x05eb;

std::uint64_t host_enclu() {
  return reinterpret_cast<std::uint64_t>(abi_call_enclu);
}

class Patched : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(enclave.error(), 0) << enclave.failed_step();
    ASSERT_EQ(run(enclave.tcs(), kAdd, 1, 2), 3u);
  }
  TestEnclave enclave{EnclaveOptions{.threads = 2}};
};

TEST_F(Patched, BothSidesAfterTheFirstUse) {
  EXPECT_EQ(head(host_enclu()), kJump);
  EXPECT_EQ(head(enclave.address_of("enclave_exit")), kJump);
  for (unsigned i = 0; i < 1000; ++i) EXPECT_EQ(run(enclave.tcs(i % 2), kAdd, i, 2), i + 2);
}

TEST_F(Patched, DebugEnclavesKeepTheirCode) {
  TestEnclave debug{EnclaveOptions{.attributes = sgx::attribute::kMode64Bit | sgx::attribute::kDebug}};
  ASSERT_EQ(debug.error(), 0) << debug.failed_step();
  for (unsigned i = 0; i < 10; ++i) EXPECT_EQ(run(debug.tcs(), kAdd, i, 2), i + 2);
  EXPECT_EQ(head(debug.address_of("enclave_exit")), kNop);
}

// abi_call with a pattern in a vector register that neither this program nor the enclave uses.
void call_with_vector(CallState& s, const std::uint8_t* in, std::uint8_t* out) {
  auto* state = &s;
  register const std::uint8_t* from asm("r12") = in;
  register std::uint8_t* to asm("r13") = out;
  asm volatile(
      "sub $128, %%rsp\n\t"
      "vmovdqu64 (%%r12), %%zmm17\n\t"
      "call abi_call\n\t"
      "vmovdqu64 %%zmm17, (%%r13)\n\t"
      "vzeroupper\n\t"
      "add $128, %%rsp"
      : "+D"(state), "+r"(from), "+r"(to)
      :
      : "memory", "rax", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11");
}

TEST_F(Patched, ExtendedStateAndControlWordsPass) {
  if (!__builtin_cpu_supports("avx512f")) GTEST_SKIP() << "no AVX-512 to look at";
  std::array<std::uint8_t, 64> in{}, out{};
  in.fill(0x5a);
  CallState s{static_cast<std::uint64_t>(sgx::Enclu::kEenter), enclave.tcs(), kAdd, 1, 2, 0, 0, 0, 0, 0};
  call_with_vector(s, in.data(), out.data());
  EXPECT_EQ(s.out_rdi, 3u);
  EXPECT_EQ(in, out);
}

// Interrupts at every instant of the way in and out; a fault of the leaf is what it was.
TEST_F(Patched, InterruptsAndFaultsOnTheWay) {
  FaultCatcher catcher;
  std::atomic<bool> stop = false;
  const pthread_t self = pthread_self();
  struct sigaction a {};
  a.sa_handler = [](int) {};
  a.sa_flags = SA_RESTART;
  sigaction(SIGUSR2, &a, nullptr);
  std::thread kicker([&] {
    while (!stop) pthread_kill(self, SIGUSR2);
  });
  for (unsigned i = 0; i < 20000; ++i) {
    ASSERT_EQ(run(enclave.tcs(i % 2), kAdd, i, 2), i + 2);
    if (i % 100 != 0) continue;
    CallState s;
    ASSERT_EQ(enter(s, enclave.tcs() + 8, kAdd), kFixedUp);
    ASSERT_EQ(FaultCatcher::caught().rip, host_enclu());
    ASSERT_EQ(FaultCatcher::caught().trap, 13u);
  }
  stop = true;
  kicker.join();
}

TEST_F(Patched, AChildOfForkGoesOnWithItsOwn) {
  const pid_t child = fork();
  if (child == 0) _exit(head(host_enclu()) == kJump && TestEnclave{EnclaveOptions{}}.error() == 0 ? 0 : 1);
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(run(enclave.tcs(), kAdd, 4, 2), 6u);
}

// A process's first calls, from all its threads at once.
TEST(PatchedFirst, ManyThreadsPatchOneSite) {
  constexpr unsigned kThreads = 16;
  TestEnclave enclave{EnclaveOptions{.threads = kThreads}};
  ASSERT_EQ(enclave.error(), 0) << enclave.failed_step();
  std::barrier together(kThreads);
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      together.arrive_and_wait();
      for (unsigned i = 0; i < 1000; ++i) EXPECT_EQ(run(enclave.tcs(t), kAdd, i, t), i + t);
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(head(host_enclu()), kJump);
  EXPECT_EQ(head(enclave.address_of("enclave_exit")), kJump);
}

TEST(Unpatched, NothingIsTouched) {
  TestEnclave enclave{EnclaveOptions{}};
  ASSERT_EQ(enclave.error(), 0) << enclave.failed_step();
  for (unsigned i = 0; i < 10; ++i) EXPECT_EQ(run(enclave.tcs(), kAdd, i, 2), i + 2);
  EXPECT_EQ(head(host_enclu()), kNop);
  EXPECT_EQ(head(enclave.address_of("enclave_exit")), kNop);
}

}  // namespace
}  // namespace third_party
