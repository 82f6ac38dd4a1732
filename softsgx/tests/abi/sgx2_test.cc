// SGX2 flows through Linux's driver: pages added on demand, rights restricted, types changed, pages removed.
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <thread>
#include <vector>

#include "softsgx/tests/abi/call.h"
#include "softsgx/tests/abi/enclave/interface.h"
#include "softsgx/tests/abi/fault_catcher.h"
#include "softsgx/tests/abi/loader.h"

namespace third_party {
namespace {

constexpr std::uint64_t kPage = sgx::kPageSize;
constexpr std::uint64_t kReg = sgx::secinfo::type(sgx::PageType::kReg);
constexpr std::uint64_t kRead1 = sgx::secinfo::kR, kWrite1 = sgx::secinfo::kW, kExec1 = sgx::secinfo::kX;
constexpr std::uint64_t kRw = kRead1 | kWrite1;
constexpr auto kTrim = static_cast<std::uint64_t>(sgx::PageType::kTrim);
constexpr auto kTcsType = static_cast<std::uint64_t>(sgx::PageType::kTcs);

class Sgx2 : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(enclave.error(), 0) << enclave.failed_step(); }

  std::uint64_t leaf(sgx::Enclu which, std::uint64_t page, std::uint64_t flags, std::uint64_t source = 0) {
    PageCall c{static_cast<std::uint64_t>(which), flags, page, source};
    return run(enclave.tcs(), kPageLeaf, reinterpret_cast<std::uint64_t>(&c));
  }
  std::uint64_t accept(std::uint64_t page, std::uint64_t flags) { return leaf(sgx::Enclu::kEaccept, page, flags); }

  int restrict(std::uint64_t page, std::uint64_t rights, sgx_enclave_restrict_permissions* out = nullptr,
               std::uint64_t length = kPage) {
    sgx_enclave_restrict_permissions arg{
        .offset = page - enclave.base(), .length = length, .permissions = rights, .result = 0, .count = 0};
    const int r = ioctl(enclave.fd(), SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS, &arg) == 0 ? 0 : errno;
    if (out) *out = arg;
    return r;
  }
  int modify(std::uint64_t page, std::uint64_t type, std::uint64_t length = kPage, std::uint64_t* count = nullptr) {
    sgx_enclave_modify_types arg{
        .offset = page - enclave.base(), .length = length, .page_type = type, .result = 0, .count = 0};
    const int r = ioctl(enclave.fd(), SGX_IOC_ENCLAVE_MODIFY_TYPES, &arg) == 0 ? 0 : errno;
    if (count) *count = arg.count;
    return r;
  }
  int remove(std::uint64_t page, std::uint64_t length = kPage, std::uint64_t* count = nullptr) {
    sgx_enclave_remove_pages arg{.offset = page - enclave.base(), .length = length, .count = 0};
    const int r = ioctl(enclave.fd(), SGX_IOC_ENCLAVE_REMOVE_PAGES, &arg) == 0 ? 0 : errno;
    if (count) *count = arg.count;
    return r;
  }
  // Enters a function that must fault; the frame is left at CSSA 1.
  const Caught& expect_fault(std::uint64_t function, std::uint64_t a, std::uint64_t b = 0) {
    CallState s;
    EXPECT_EQ(enter(s, enclave.tcs(), function, a, b), kAtAep);
    return FaultCatcher::caught();
  }

  FaultCatcher catcher;
  TestEnclave enclave{EnclaveOptions{.threads = 2, .miscselect = sgx::miscselect::kExinfo, .heap_pages = 16}};
  std::uint64_t heap = enclave.heap();
  std::uint64_t fresh = enclave.base() + enclave.end_offset();  // no page there
};

TEST_F(Sgx2, AcceptAddsAPageOnDemand) {
  ASSERT_EQ(enclave.map(fresh - enclave.base(), 4 * kPage, PROT_READ | PROT_WRITE), 0);
  for (std::uint64_t p = fresh; p < fresh + 4 * kPage; p += kPage) {
    EXPECT_EQ(accept(p, kReg | kRw | sgx::secinfo::kPending), 0u);
    EXPECT_EQ(run(enclave.tcs(), kRead, p), 0u);
    EXPECT_EQ(run(enclave.tcs(), kWrite, p, 0x77), 0u);
    EXPECT_EQ(run(enclave.tcs(), kRead, p), 0x77u);
  }
  EXPECT_EQ(FaultCatcher::caught().count, 0);
  // Twice is an error, not a new page.
  EXPECT_NE(accept(fresh, kReg | kRw | sgx::secinfo::kPending), 0u);
  EXPECT_EQ(run(enclave.tcs(), kRead, fresh), 0x77u);
}

TEST_F(Sgx2, TouchingAPendingPageFaultsUntilItIsAccepted) {
  ASSERT_EQ(enclave.map(fresh - enclave.base(), kPage, PROT_READ | PROT_WRITE), 0);
  CallState s;
  ASSERT_EQ(enter(s, enclave.tcs(), kRead, fresh), kAtAep);
  EXPECT_EQ(FaultCatcher::caught().signal, SIGSEGV);
  EXPECT_EQ(FaultCatcher::caught().code, SEGV_ACCERR);
  EXPECT_EQ(FaultCatcher::caught().error & 0x8000, 0x8000u);
  // The usual way: another entry accepts, then the access is resumed.
  PageCall c{5, kReg | kRw | sgx::secinfo::kPending, fresh, 0};
  EXPECT_EQ(run(enclave.tcs(1), kPageLeaf, reinterpret_cast<std::uint64_t>(&c)), 0u);
  EXPECT_EQ(resume(s, enclave.tcs()), kExited);
  EXPECT_EQ(s.out_rdi, 0u);
}

TEST_F(Sgx2, AcceptWhereNothingIsMappedFaults) {
  PageCall c{5, kReg | kRw | sgx::secinfo::kPending, fresh, 0};
  const Caught& f = expect_fault(kPageLeaf, reinterpret_cast<std::uint64_t>(&c));
  EXPECT_EQ(f.signal, SIGSEGV);
  EXPECT_EQ(f.code, SEGV_MAPERR);
  EXPECT_EQ(f.address, fresh);
}

TEST_F(Sgx2, AcceptCopyTakesContentsAndRights) {
  ASSERT_EQ(enclave.map(fresh - enclave.base(), kPage, PROT_READ | PROT_EXEC), 0);
  const std::uint64_t code = enclave.address_of("enclave_entry");
  EXPECT_EQ(leaf(sgx::Enclu::kEacceptcopy, fresh, kReg | kRead1 | kExec1, code), 0u);
  EXPECT_EQ(run(enclave.tcs(), kRead, fresh), run(enclave.tcs(), kRead, code));
  EXPECT_EQ(expect_fault(kWrite, fresh).error, 7u);
}

TEST_F(Sgx2, ExtendedRightsAreUsableAtOnce) {
  ASSERT_EQ(enclave.map(fresh - enclave.base(), kPage, PROT_READ | PROT_WRITE | PROT_EXEC), 0);
  EXPECT_EQ(accept(fresh, kReg | kRw | sgx::secinfo::kPending), 0u);
  EXPECT_EQ(run(enclave.tcs(), kWrite, fresh, 0xc3), 0u);   // ret
  EXPECT_EQ(expect_fault(kExecute, fresh).error, 0x8015u);  // fetch, SGX
  PageCall c{6, kReg | kRead1 | kExec1, fresh, 0};
  EXPECT_EQ(run(enclave.tcs(1), kPageLeaf, reinterpret_cast<std::uint64_t>(&c)), 6u);  // RAX is left alone
  run(enclave.tcs(1), kExecute, fresh);
  EXPECT_EQ(FaultCatcher::caught().count, 1);
}

TEST_F(Sgx2, RestrictedRightsHoldAndAreAccepted) {
  EXPECT_EQ(run(enclave.tcs(), kWrite, heap, 5), 0u);
  sgx_enclave_restrict_permissions out;
  ASSERT_EQ(restrict(heap, kRead1, &out), 0);
  EXPECT_EQ(out.count, kPage);
  EXPECT_EQ(out.result, 0u);
  EXPECT_EQ(accept(heap, kReg | kRead1 | sgx::secinfo::kPr), 0u);
  EXPECT_EQ(run(enclave.tcs(), kRead, heap), 5u);
  const Caught& c = expect_fault(kWrite, heap, 6);
  EXPECT_EQ(c.signal, SIGSEGV);
  EXPECT_EQ(c.error, 0x8007u);
}

TEST_F(Sgx2, RestrictChecksItsArguments) {
  EXPECT_EQ(restrict(heap, kWrite1), EINVAL);
  EXPECT_EQ(restrict(heap, 8), EINVAL);
  EXPECT_EQ(restrict(heap + 8, kRead1), EINVAL);
  EXPECT_EQ(restrict(heap, kRead1, nullptr, 0), EINVAL);
  EXPECT_EQ(restrict(heap, kRead1, nullptr, enclave.size()), EINVAL);
  EXPECT_EQ(restrict(enclave.tcs(1), kRead1), EINVAL);
  sgx_enclave_restrict_permissions out;
  EXPECT_EQ(restrict(fresh - kPage, kRead1, &out, 2 * kPage), EFAULT);
  EXPECT_EQ(out.count, kPage);
  sgx_enclave_restrict_permissions dirty{
      .offset = heap - enclave.base(), .length = kPage, .permissions = kRead1, .result = 0, .count = 1};
  EXPECT_EQ(ioctl(enclave.fd(), SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS, &dirty), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST_F(Sgx2, RemovalNeedsTrimAndAccept) {
  EXPECT_EQ(remove(heap), EPERM);
  ASSERT_EQ(modify(heap, kTrim, 2 * kPage), 0);
  EXPECT_EQ(remove(heap), EPERM);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(accept(heap + static_cast<unsigned>(i) * kPage,
                     sgx::secinfo::type(sgx::PageType::kTrim) | sgx::secinfo::kModified),
              0u);
  }
  std::uint64_t count = 0;
  EXPECT_EQ(remove(heap, 3 * kPage, &count), EPERM);  // the third is an ordinary page
  EXPECT_EQ(count, 2 * kPage);
  EXPECT_EQ(remove(heap), EFAULT);
  // Its place is free for a new one.
  EXPECT_EQ(accept(heap, kReg | kRw | sgx::secinfo::kPending), 0u);
  EXPECT_EQ(run(enclave.tcs(), kRead, heap), 0u);
}

TEST_F(Sgx2, TypeChangesAreChecked) {
  EXPECT_EQ(modify(heap, static_cast<std::uint64_t>(sgx::PageType::kReg)), EINVAL);
  EXPECT_EQ(modify(heap, 0x1ff), EINVAL);
  EXPECT_EQ(modify(enclave.address_of("sample_data"), kTcsType), EPERM);  // not writable by SECINFO
  EXPECT_EQ(modify(fresh, kTrim), EFAULT);
}

TEST_F(Sgx2, ModifiedPageBecomesATcs) {
  // A new thread: block and stack of thread 1, TCS in a heap page.
  auto poke = [&](std::uint64_t at, std::uint64_t value, unsigned bytes) {
    for (unsigned i = 0; i < bytes; ++i) run(enclave.tcs(), kWrite, at + i, value >> (8 * i));
  };
  const std::uint64_t tcs = heap + 4 * kPage, ssa = enclave.tcs(1) + kPage;
  const std::uint64_t block = enclave.thread_block(1) - enclave.base();
  poke(tcs + offsetof(sgx::Tcs, ossa), ssa - enclave.base(), 8);
  poke(tcs + offsetof(sgx::Tcs, nssa), 2, 4);
  poke(tcs + offsetof(sgx::Tcs, oentry), enclave.address_of("enclave_entry") - enclave.base(), 8);
  poke(tcs + offsetof(sgx::Tcs, ofsbase), block, 8);
  poke(tcs + offsetof(sgx::Tcs, ogsbase), block, 8);
  poke(tcs + offsetof(sgx::Tcs, fslimit), ~0ull, 8);
  ASSERT_EQ(modify(tcs, kTcsType), 0);
  EXPECT_EQ(accept(tcs, sgx::secinfo::type(sgx::PageType::kTcs) | sgx::secinfo::kModified), 0u);
  EXPECT_EQ(run(tcs, kAdd, 8, 9), 17u);
  EXPECT_EQ(modify(tcs, kTcsType), EINVAL);  // a TCS can only be trimmed
  EXPECT_EQ(modify(tcs, kTrim), 0);
}

TEST_F(Sgx2, ThreadsInsideAreInterruptedSoThatAcceptSucceeds) {
  std::atomic<std::uint32_t> stop = 0;
  std::thread other([&] { run(enclave.tcs(1), kCount, reinterpret_cast<std::uint64_t>(&stop)); });
  for (int i = 0; i < 50; ++i) {
    const std::uint64_t page = heap + static_cast<std::uint64_t>(i % 16) * kPage;
    ASSERT_EQ(restrict(page, kRw), 0);
    ASSERT_EQ(accept(page, kReg | kRw | sgx::secinfo::kPr), 0u);
  }
  stop = 1;
  other.join();
}

TEST_F(Sgx2, ThreadsRaceForOnePage) {
  ASSERT_EQ(enclave.map(fresh - enclave.base(), 64 * kPage, PROT_READ | PROT_WRITE), 0);
  std::atomic<int> accepted = 0;
  auto work = [&](unsigned thread) {
    FaultCatcher::caught() = {};
    for (std::uint64_t i = 0; i < 64; ++i) {
      PageCall c{5, kReg | kRw | sgx::secinfo::kPending, fresh + i * kPage, 0};
      accepted += run(enclave.tcs(thread), kPageLeaf, reinterpret_cast<std::uint64_t>(&c)) == 0;
    }
  };
  std::thread a(work, 0), b(work, 1);
  a.join();
  b.join();
  EXPECT_EQ(accepted, 64);
}

}  // namespace
}  // namespace third_party
