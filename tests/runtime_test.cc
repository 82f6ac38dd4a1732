// The runtime from outside: an ordinary program inside an enclave, called through the public API.
#include <gtest/gtest.h>

#include <sys/mman.h>
#include <semaphore>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "host/device.h"
#include "host/error.h"

#include "sealift/enclave.h"
#include "tests/enclaves/hello_calls.h"

namespace sealift {
namespace {

const std::string kHello = std::string(SEALIFT_BIN_DIR) + "/hello.enclave";

TEST(Runtime, TypedCallsCarryValuesBothWays) {
  const auto enclave = Enclave::open(kHello);
  const auto reply = enclave->call(hello::kGreet, "world", 2u);
  ASSERT_TRUE(reply.ok()) << errc_name(reply.error());
  EXPECT_EQ(*reply, "hello world\nhello world\n");
}

TEST(Runtime, CppExceptionsAndContainersWorkInside) {
  const auto enclave = Enclave::open(kHello);
  const auto caught = enclave->call(hello::kCatches);
  ASSERT_TRUE(caught.ok()) << errc_name(caught.error());
  EXPECT_EQ(*caught, 42);
}

TEST(Runtime, AnExceptionThatLeavesAnEcallIsAnErrorToTheCallerAndNoCrash) {
  const auto enclave = Enclave::open(kHello);
  EXPECT_EQ(enclave->call(hello::kThrows).error(), Errc::kAppException);
  EXPECT_TRUE(enclave->call(hello::kCatches).ok());
}

TEST(Runtime, ThreadsMadeInsideShareAMutex) {
  const auto enclave = Enclave::open(kHello);
  const auto sum = enclave->call(hello::kSumInThreads, 8u, 5000u);
  ASSERT_TRUE(sum.ok()) << errc_name(sum.error());
  EXPECT_EQ(*sum, 40000u);
}

TEST(Runtime, OcallsReachTheHandlerAndComeBack) {
  const auto enclave = Enclave::open(kHello);
  enclave->on(hello::kDouble, [](std::uint32_t v) { return 2 * v; });
  const auto reply = enclave->call(hello::kAskHost, 21u);
  ASSERT_TRUE(reply.ok()) << errc_name(reply.error());
  EXPECT_EQ(*reply, 42u);
}

TEST(Runtime, ManyHostThreadsCallAtOnce) {
  const auto enclave = Enclave::open(kHello);
  std::vector<std::thread> callers;
  std::atomic<int> good{0};
  for (int t = 0; t < 12; ++t) {
    callers.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        const auto reply = enclave->call(hello::kGreet, std::to_string(i), 1u);
        if (reply.ok() && *reply == "hello " + std::to_string(i) + "\n") ++good;
      }
    });
  }
  for (std::thread& c : callers) c.join();
  EXPECT_EQ(good.load(), 600);
}

// malloc's lock, when threads meet at it, makes futex ocalls of its own, at any allocation: none may fall between a
// message's arrival in the slot and its copy, or between the reply's copy and the exit.
TEST(Runtime, MessagesSurviveAContendedHeap) {
  const auto enclave = Enclave::open(kHello);
  std::vector<std::thread> callers;
  std::atomic<int> good{0};
  for (int t = 0; t < 4; ++t) {
    callers.emplace_back([&] {
      for (int i = 0; i < 10000; ++i) {
        const auto reply = enclave->call(hello::kGreet, std::string(3000, 'x'), 3u);
        if (reply.ok() && reply->size() == 3 * 3007) ++good;
      }
    });
  }
  for (std::thread& c : callers) c.join();
  EXPECT_EQ(good.load(), 40000);
}

TEST(Runtime, ACrashIsReportedWithExceptionAndAddress) {
  const auto enclave = Enclave::open(kHello);
  EXPECT_EQ(enclave->call(hello::kCrash, std::uint64_t{8}).error(), Errc::kCrashed);
  EXPECT_NE(enclave->crash_report().find("exception 14"), std::string::npos) << enclave->crash_report();
  EXPECT_EQ(enclave->call(hello::kCatches).error(), Errc::kCrashed);
}

TEST(Runtime, ACrashAlsoEndsCallsThatWaitForAThread) {
  const auto enclave = Enclave::open(kHello);
  constexpr int kEcallThreads = 4;  // hello.toml
  std::counting_semaphore<> inside(0), leave(0);
  enclave->on(hello::kDouble, [&](std::uint32_t v) {
    inside.release();
    leave.acquire();
    return v;
  });
  std::vector<std::thread> busy, waiting;
  for (int t = 0; t < kEcallThreads; ++t) {
    busy.emplace_back([&] { EXPECT_EQ(enclave->call(hello::kAskHostThenCrash).error(), Errc::kCrashed); });
  }
  for (int t = 0; t < kEcallThreads; ++t) inside.acquire();
  std::atomic<int> crashed{0};
  for (int t = 0; t < 8; ++t) {
    waiting.emplace_back([&] { crashed += enclave->call(hello::kCatches).error() == Errc::kCrashed ? 1 : 0; });
  }
  leave.release();  // one crashes; the others still sit in their handlers, so nobody gives a thread back
  for (std::thread& w : waiting) w.join();
  EXPECT_EQ(crashed.load(), 8);
  leave.release(kEcallThreads);
  for (std::thread& b : busy) b.join();
}

// --- What is refused when an enclave is built: one line, and everything else goes on.

// The error of opening this image, or "opened".
std::string open_error(const std::string& path) {
  try {
    const auto enclave = Enclave::open(path);
    return "opened";
  } catch (const host::Error& e) {
    return e.what();
  }
}

class DamagedCopy {
 public:
  explicit DamagedCopy(const std::string& marker, std::ptrdiff_t offset)
      : path_(::testing::TempDir() + "damaged.enclave") {
    std::ifstream in(kHello, std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    const std::size_t at = bytes.find(marker);
    EXPECT_NE(at, std::string::npos);
    bytes[at + static_cast<std::size_t>(offset)] ^= 1;
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  ~DamagedCopy() { std::filesystem::remove(path_); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST(Build, AChangedByteOfTheProgramIsRefusedByEinit) {
  const DamagedCopy copy("a secret", 0);  // a string constant of the program
  EXPECT_NE(open_error(copy.path()).find("EINIT refused"), std::string::npos) << open_error(copy.path());
  EXPECT_EQ(open_error(kHello), "opened");
}

TEST(Build, AChangedSignatureIsRefusedByEinit) {
  // SIGSTRUCT's second header constant, 104 bytes before the modulus; the signature is behind the modulus.
  const std::string header2(reinterpret_cast<const char*>(sgx::kSigstructHeader2), sizeof sgx::kSigstructHeader2);
  const DamagedCopy copy(header2, static_cast<std::ptrdiff_t>(offsetof(sgx::Sigstruct, signature)) -
                                      static_cast<std::ptrdiff_t>(offsetof(sgx::Sigstruct, header2)) + 7);
  EXPECT_NE(open_error(copy.path()).find("EINIT refused"), std::string::npos) << open_error(copy.path());
}

TEST(Build, AMissingImageIsOneLine) {
  const std::string error = open_error("/nowhere/x.enclave");
  EXPECT_NE(error.find("/nowhere/x.enclave"), std::string::npos);
  EXPECT_EQ(error.find('\n'), std::string::npos);
}

TEST(Build, WhenEpcIsUsedUpTheNextEnclaveIsRefusedAndTheOthersGoOn) {
  std::vector<std::unique_ptr<Enclave>> enclaves;
  std::string error;
  while (error.empty() && enclaves.size() < 64) {
    try {
      enclaves.push_back(Enclave::open(kHello));
    } catch (const host::Error& e) {
      error = e.what();
      EXPECT_EQ(e.code(), Errc::kEpcLost);
    }
  }
  EXPECT_NE(error.find("EPC is too small"), std::string::npos) << error;
  ASSERT_FALSE(enclaves.empty());
  for (const auto& enclave : enclaves) EXPECT_TRUE(enclave->call(hello::kCatches).ok());
  enclaves.pop_back();
  EXPECT_EQ(open_error(kHello), "opened") << "the pages of a closed enclave are free again";
}

TEST(Build, ATakenAddressIsRefused) {
  const host::Image image = host::Image::load(kHello);
  std::uint64_t base = 0;
  {
    const host::Device once(image, std::nullopt);
    base = once.base();
  }
  void* taken = mmap(reinterpret_cast<void*>(base + 4096), 4096, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  ASSERT_NE(taken, MAP_FAILED);
  try {
    const host::Device again(image, base);
    FAIL() << "built over an existing mapping";
  } catch (const host::Error& e) {
    EXPECT_EQ(e.code(), Errc::kWrongBase);
  }
  munmap(taken, 4096);
  EXPECT_EQ(host::Device(image, base).base(), base);
}

}  // namespace
}  // namespace sealift
