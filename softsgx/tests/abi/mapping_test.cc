// mmap, mprotect, munmap and close of enclave files.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "softsgx/tests/abi/call.h"
#include "softsgx/tests/abi/enclave/interface.h"
#include "softsgx/tests/abi/fault_catcher.h"
#include "softsgx/tests/abi/loader.h"

namespace third_party {
namespace {

constexpr std::uint64_t kPage = sgx::kPageSize;

void* at(std::uint64_t address) {
  return reinterpret_cast<void*>(address);
}

TEST(Nodes, LookLikeDevices) {
  struct stat st;
  ASSERT_EQ(stat("/dev/sgx_enclave", &st), 0);
  EXPECT_TRUE(S_ISCHR(st.st_mode));
  EXPECT_EQ(access("/dev/sgx_provision", R_OK), 0);
  EXPECT_EQ(access("/dev/sgx_nonsense", F_OK), -1);
}

class Mapping : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(enclave.error(), 0) << enclave.failed_step(); }
  FaultCatcher catcher;
  TestEnclave enclave{EnclaveOptions{.threads = 2, .heap_pages = 16}};
};

TEST(MappingOrder, MmapBeforeAddWorks) {
  TestEnclave e(EnclaveOptions{.map_before_add = true});
  ASSERT_EQ(e.error(), 0) << e.failed_step();
  EXPECT_EQ(run(e.tcs(), kAdd, 1, 2), 3u);
}

TEST_F(Mapping, PrivateMappingsAreRefused) {
  EXPECT_EQ(mmap(at(enclave.heap()), kPage, PROT_READ, MAP_PRIVATE | MAP_FIXED, enclave.fd(), 0), MAP_FAILED);
  EXPECT_EQ(errno, EINVAL);
}

TEST_F(Mapping, RightsAreCappedBySecinfo) {
  const std::uint64_t code = enclave.address_of("enclave_entry");
  const std::uint64_t constants = enclave.address_of("sample_data");
  EXPECT_EQ(mprotect(at(code), kPage, PROT_READ | PROT_WRITE), -1);
  EXPECT_EQ(errno, EACCES);
  EXPECT_EQ(mprotect(at(constants), kPage, PROT_READ | PROT_EXEC), -1);
  EXPECT_EQ(errno, EACCES);
  EXPECT_EQ(enclave.map(code - enclave.base(), kPage, PROT_READ | PROT_WRITE), EACCES);
  EXPECT_EQ(mprotect(at(enclave.heap()), kPage, PROT_READ | PROT_WRITE | PROT_EXEC), -1);
  EXPECT_EQ(errno, EACCES);
  // One page in the range is enough, and nothing has changed then.
  EXPECT_EQ(mprotect(at(code), constants + kPage - code, PROT_READ | PROT_EXEC), -1);
  EXPECT_EQ(run(enclave.tcs(), kAdd, 2, 2), 4u);
}

TEST_F(Mapping, MprotectTakesRightsAwayAndGivesThemBack) {
  const std::uint64_t page = enclave.heap() + 3 * kPage;
  EXPECT_EQ(run(enclave.tcs(), kWrite, page, 7), 0u);
  ASSERT_EQ(mprotect(at(page), kPage, PROT_READ), 0);
  EXPECT_EQ(run(enclave.tcs(), kRead, page), 7u);
  CallState s;
  EXPECT_EQ(enter(s, enclave.tcs(), kWrite, page, 8), kAtAep);
  EXPECT_EQ(FaultCatcher::caught().error, 7u);
  ASSERT_EQ(mprotect(at(page), kPage, PROT_READ | PROT_WRITE), 0);
  EXPECT_EQ(resume(s, enclave.tcs()), kExited);
  EXPECT_EQ(run(enclave.tcs(), kRead, page), 8u);
}

TEST_F(Mapping, MprotectSpansEnclaveAndOrdinaryMemory) {
  // Enclave heap, then reserved ordinary memory behind it.
  const std::uint64_t last = enclave.base() + enclave.end_offset() - kPage;
  ASSERT_EQ(mprotect(at(last), 3 * kPage, PROT_READ | PROT_WRITE), 0);
  *static_cast<volatile int*>(at(last + kPage)) = 1;
  EXPECT_EQ(run(enclave.tcs(), kRead, last), 0u);
}

TEST_F(Mapping, UnmappedPageFaultsAndComesBackUnchanged) {
  const std::uint64_t page = enclave.heap() + 5 * kPage;
  EXPECT_EQ(run(enclave.tcs(), kWrite, page, 0x5a), 0u);
  ASSERT_EQ(munmap(at(page), kPage), 0);
  CallState s;
  EXPECT_EQ(enter(s, enclave.tcs(), kRead, page), kAtAep);
  EXPECT_EQ(FaultCatcher::caught().signal, SIGSEGV);
  EXPECT_EQ(FaultCatcher::caught().code, SEGV_MAPERR);
  ASSERT_EQ(enclave.map(page - enclave.base(), kPage, PROT_READ | PROT_WRITE), 0);
  EXPECT_EQ(resume(s, enclave.tcs()), kExited);
  EXPECT_EQ(s.out_rdi, 0x5au);
}

TEST_F(Mapping, UnmappedTcsIsAPageFaultWithoutTheSgxBit) {
  ASSERT_EQ(munmap(at(enclave.tcs()), kPage), 0);
  CallState s;
  EXPECT_EQ(enter(s, enclave.tcs(), kAdd), kFixedUp);
  EXPECT_EQ(FaultCatcher::caught().trap, 14u);
  EXPECT_EQ(FaultCatcher::caught().error & 0x8000, 0u);
  EXPECT_EQ(FaultCatcher::caught().address, enclave.tcs());
}

TEST_F(Mapping, OutlivesItsDescriptor) {
  enclave.close_fd();
  EXPECT_EQ(run(enclave.tcs(), kAdd, 5, 6), 11u);
}

TEST_F(Mapping, WorksThroughADuplicate) {
  const int copy = dup(enclave.fd());
  enclave.close_fd();
  void* again = mmap(at(enclave.heap()), kPage, PROT_READ, MAP_SHARED | MAP_FIXED, copy, 0);
  EXPECT_EQ(again, at(enclave.heap()));
  close(copy);
  EXPECT_EQ(run(enclave.tcs(), kRead, enclave.heap()), 0u);
}

TEST_F(Mapping, OtherMemoryOverItReplacesIt) {
  const std::uint64_t page = enclave.heap();
  void* over = mmap(at(page), kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  ASSERT_EQ(over, at(page));
  *static_cast<volatile unsigned char*>(over) = 9;
  EXPECT_EQ(*static_cast<volatile unsigned char*>(over), 9);
}

TEST_F(Mapping, ChildOfForkUsesTheEnclave) {
  const pid_t child = fork();
  if (child == 0) {
    // `syscall` must still trap there: the kernel drops Syscall User Dispatch at fork.
    CallState s;
    const bool ok = run(enclave.tcs(1), kAdd, 1, 2) == 3 && enter(s, enclave.tcs(1), kSyscall) == kAtAep &&
                    FaultCatcher::caught().signal == SIGILL;
    _exit(ok ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(run(enclave.tcs(), kAdd, 1, 2), 3u);
}

TEST_F(Mapping, ChildThatLetsGoDoesNotDestroyTheEnclave) {
  const pid_t child = fork();
  if (child == 0) {
    enclave.unmap();
    enclave.close_fd();
    _exit(0);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(run(enclave.tcs(), kAdd, 1, 2), 3u);
}

TEST(Lifetime, DescriptorReplacedByDup2IsClosed) {
  for (int i = 0; i < 12; ++i) {
    TestEnclave e(EnclaveOptions{.size = 256u << 20, .heap_pages = 25'000});
    ASSERT_EQ(e.error(), 0) << e.failed_step() << " of enclave " << i;
    e.unmap();
    ASSERT_EQ(dup2(STDERR_FILENO, e.fd()), e.fd());
  }
}

TEST(Lifetime, EpcIsFreedAtTheLastUse) {
  // Together they are several times the machine's EPC: each must give its pages back.
  for (int i = 0; i < 12; ++i) {
    TestEnclave e(EnclaveOptions{.size = 256u << 20, .heap_pages = 25'000});
    ASSERT_EQ(e.error(), 0) << e.failed_step() << " of enclave " << i;
    ASSERT_EQ(run(e.tcs(), kAdd, 1, static_cast<std::uint64_t>(i)), 1u + static_cast<unsigned>(i));
  }
}

TEST(Lifetime, EnclavesAtTheSameAddressOneAfterAnother) {
  std::uint64_t base;
  {
    TestEnclave e(EnclaveOptions{});
    ASSERT_EQ(e.error(), 0);
    base = e.base();
  }
  TestEnclave e(EnclaveOptions{.base = base});
  ASSERT_EQ(e.error(), 0) << e.failed_step();
  EXPECT_EQ(run(e.tcs(), kAdd, 1, 2), 3u);
  // Rebuilt in place: the new one is mapped over the old one, which still exists.
  TestEnclave f(EnclaveOptions{.base = base});
  ASSERT_EQ(f.error(), 0) << f.failed_step();
  EXPECT_EQ(run(f.tcs(), kAdd, 3, 4), 7u);
}

TEST(Lifetime, ManyEnclaves) {
  std::vector<std::unique_ptr<TestEnclave>> all;
  for (unsigned i = 0; i < 64; ++i) {
    all.push_back(std::make_unique<TestEnclave>(EnclaveOptions{}));
    ASSERT_EQ(all.back()->error(), 0) << all.back()->failed_step();
  }
  for (unsigned i = 0; i < 64; ++i) EXPECT_EQ(run(all[i]->tcs(), kAdd, i, 1), i + 1);
}

}  // namespace
}  // namespace third_party
