// The SGX1 ioctls' checks and errors (Linux: arch/x86/kernel/cpu/sgx/ioctl.c).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "softsgx/tests/abi/call.h"
#include "softsgx/tests/abi/enclave/interface.h"
#include "softsgx/tests/abi/loader.h"

namespace third_party {
namespace {

constexpr std::uint64_t kPage = sgx::kPageSize;
constexpr std::uint64_t kReg = sgx::secinfo::type(sgx::PageType::kReg);
constexpr std::uint64_t kTcs = sgx::secinfo::type(sgx::PageType::kTcs);
constexpr std::uint64_t kRw = kReg | sgx::secinfo::kR | sgx::secinfo::kW;
alignas(4096) std::uint8_t g_page[2 * kPage];

template <typename Argument>
int call(int fd, unsigned long command, Argument* argument) {
  return ioctl(fd, command, argument) == 0 ? 0 : errno;
}

class Device : public ::testing::Test {
 protected:
  void TearDown() override { close(fd); }
  int create(sgx::Secs& secs) {
    sgx_enclave_create arg{reinterpret_cast<__u64>(&secs)};
    return call(fd, SGX_IOC_ENCLAVE_CREATE, &arg);
  }
  static sgx::Secs good() {
    sgx::Secs s{};
    s.size = 1 << 20;
    s.baseaddr = 1ull << 40;
    s.ssaframesize = 1;
    s.attributes = {sgx::attribute::kMode64Bit, sgx::xfrm::kLegacy};
    return s;
  }
  int fd = open("/dev/sgx_enclave", O_RDWR);
};

TEST_F(Device, UnknownIoctlIsEnotty) {
  EXPECT_EQ(call(fd, _IO(SGX_MAGIC, 0x55), g_page), ENOTTY);
}

TEST_F(Device, CreateTakesBadPointersAsEfault) {
  EXPECT_EQ(call(fd, SGX_IOC_ENCLAVE_CREATE, reinterpret_cast<void*>(8)), EFAULT);
  sgx_enclave_create arg{8};
  EXPECT_EQ(call(fd, SGX_IOC_ENCLAVE_CREATE, &arg), EFAULT);
}

TEST_F(Device, CreateRefusesWhatEcreateRefuses) {
  sgx::Secs s = good();
  s.size = 3 * kPage;  // not a power of two
  EXPECT_EQ(create(s), EIO);
  s = good();
  s.baseaddr += kPage;  // not naturally aligned
  EXPECT_EQ(create(s), EIO);
  s = good();
  s.attributes.xfrm = sgx::xfrm::kX87;
  EXPECT_EQ(create(s), EIO);
  s = good();
  EXPECT_EQ(create(s), 0);
  EXPECT_EQ(create(s), EINVAL);
}

TEST_F(Device, NothingButCreateComesFirst) {
  sgx_enclave_add_pages add{};
  EXPECT_EQ(call(fd, SGX_IOC_ENCLAVE_ADD_PAGES, &add), EINVAL);
  sgx_enclave_init init{};
  EXPECT_EQ(call(fd, SGX_IOC_ENCLAVE_INIT, &init), EINVAL);
  sgx_enclave_remove_pages remove{};
  EXPECT_EQ(call(fd, SGX_IOC_ENCLAVE_REMOVE_PAGES, &remove), EINVAL);
}

class AddPages : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(enclave.error(), 0) << enclave.failed_step(); }
  TestEnclave enclave{EnclaveOptions{.initialise = false}};
  std::uint64_t offset = enclave.end_offset();
};

TEST_F(AddPages, ChecksAlignmentAndRange) {
  EXPECT_EQ(enclave.add(offset + 8, g_page, kPage, kRw, false), EINVAL);
  EXPECT_EQ(enclave.add(offset, g_page + 8, kPage, kRw, false), EINVAL);
  EXPECT_EQ(enclave.add(offset, g_page, 0, kRw, false), EINVAL);
  EXPECT_EQ(enclave.add(offset, g_page, 100, kRw, false), EINVAL);
  EXPECT_EQ(enclave.add(enclave.size(), g_page, kPage, kRw, false), EINVAL);
  EXPECT_EQ(enclave.add(enclave.size() - kPage, g_page, 2 * kPage, kRw, false), EINVAL);
  EXPECT_EQ(enclave.add(~std::uint64_t{0} << 12, g_page, 2 * kPage, kRw, false), EINVAL);
}

TEST_F(AddPages, ChecksSecinfo) {
  EXPECT_EQ(enclave.add(offset, g_page, kPage, kReg | sgx::secinfo::kW, false), EINVAL);
  EXPECT_EQ(enclave.add(offset, g_page, kPage, kTcs | sgx::secinfo::kR, false), EINVAL);
  EXPECT_EQ(enclave.add(offset, g_page, kPage, sgx::secinfo::type(sgx::PageType::kSecs), false), EINVAL);
  EXPECT_EQ(enclave.add(offset, g_page, kPage, sgx::secinfo::type(sgx::PageType::kTrim), false), EINVAL);
  EXPECT_EQ(enclave.add(offset, g_page, kPage, kRw | sgx::secinfo::kPending, false), EINVAL);
  EXPECT_EQ(enclave.add(offset, g_page, kPage, kRw | 1ull << 40, false), EINVAL);
}

TEST_F(AddPages, BadSourceIsEfaultWithThePagesBeforeItCounted) {
  auto* two =
      static_cast<std::uint8_t*>(mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  munmap(two + kPage, kPage);
  std::uint64_t count = 99;
  EXPECT_EQ(enclave.add(offset, two, 2 * kPage, kRw, false, &count), EFAULT);
  EXPECT_EQ(count, kPage);
  munmap(two, kPage);
}

TEST_F(AddPages, SamePageTwiceIsEbusy) {
  std::uint64_t count = 0;
  EXPECT_EQ(enclave.add(offset + kPage, g_page, kPage, kRw, false), 0);
  EXPECT_EQ(enclave.add(offset, g_page, 2 * kPage, kRw, false, &count), EBUSY);
  EXPECT_EQ(count, kPage);
}

TEST_F(AddPages, MeasuresExactlyWhatWasAdded) {
  EXPECT_EQ(enclave.add(offset, g_page, 2 * kPage, kRw, true), 0);
  EXPECT_EQ(enclave.init(), 0);
  EXPECT_EQ(enclave.add(offset + 2 * kPage, g_page, kPage, kRw, true), EINVAL);
  EXPECT_EQ(enclave.init(), EINVAL);
}

TEST(Init, WrongSignatureIsEperm) {
  TestEnclave e(EnclaveOptions{.corrupt_signature = true});
  EXPECT_EQ(e.error(), EPERM);
  EXPECT_EQ(e.failed_step(), "init");
}

TEST(Init, ProvisioningNeedsTheProvisionDevice) {
  constexpr std::uint64_t kAttributes = sgx::attribute::kMode64Bit | sgx::attribute::kProvisionKey;
  TestEnclave refused(EnclaveOptions{.attributes = kAttributes});
  EXPECT_EQ(refused.error(), EACCES);
  EXPECT_EQ(refused.failed_step(), "init");
  TestEnclave allowed(EnclaveOptions{.attributes = kAttributes, .provision = true});
  EXPECT_EQ(allowed.error(), 0) << allowed.failed_step();
  EXPECT_EQ(run(allowed.tcs(), kAdd, 1, 1), 2u);
}

TEST(Init, ProvisionRefusesOtherFiles) {
  TestEnclave e(EnclaveOptions{.initialise = false});
  sgx_enclave_provision arg{static_cast<__u64>(e.fd())};
  EXPECT_EQ(call(e.fd(), SGX_IOC_ENCLAVE_PROVISION, &arg), EINVAL);
  arg.fd = ~0u;
  EXPECT_EQ(call(e.fd(), SGX_IOC_ENCLAVE_PROVISION, &arg), EINVAL);
}

TEST(Init, UninitialisedEnclaveCannotBeEntered) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer reports the fault and exits";
#endif
  TestEnclave e(EnclaveOptions{.initialise = false});
  ASSERT_EQ(e.error(), 0);
  EXPECT_EXIT(run(e.tcs(), kAdd), ::testing::KilledBySignal(SIGSEGV), "");
}

}  // namespace
}  // namespace third_party
