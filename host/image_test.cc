// A corrupt image is refused with one line, whatever is wrong with it. Works on a real signed enclave's bytes.
#include "host/image.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "host/sign.h"
#include "migration/abi.h"

namespace sealift::host {
namespace {

std::vector<std::uint8_t> hello_bytes() {
  std::ifstream file(std::string(SEALIFT_BIN_DIR) + "/hello.enclave", std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

Elf64_Ehdr& header(std::vector<std::uint8_t>& bytes) {
  return *reinterpret_cast<Elf64_Ehdr*>(bytes.data());
}

Elf64_Phdr& segment(std::vector<std::uint8_t>& bytes, unsigned wanted_flags) {
  auto* p = reinterpret_cast<Elf64_Phdr*>(bytes.data() + header(bytes).e_phoff);
  for (unsigned i = 0; i < header(bytes).e_phnum; ++i) {
    if (p[i].p_type == PT_LOAD && p[i].p_flags == wanted_flags) return p[i];
  }
  throw std::runtime_error("no such segment");
}

std::string refusal(std::vector<std::uint8_t> bytes) {
  try {
    Image image(std::move(bytes), "test");
    image.check_config();
    static_cast<void>(measure(image));
  } catch (const Error& e) {
    return e.what();
  }
  return "accepted";
}

void write(const std::string& path, const std::vector<std::uint8_t>& bytes) {
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
}

TEST(Image, TheSignedImageIsAcceptedAndItsMeasurementIsTheSignedOne) {
  Image image(hello_bytes(), "hello");
  image.check_config();
  EXPECT_EQ(measure(image), image.sigstruct().enclavehash);
}

TEST(Image, ThreadsThatItCannotHaveGetNoPages) {
  const Image image(hello_bytes(), "hello");
  const EnclaveConfig& c = image.config();
  const std::uint64_t unused = c.thread_block_offset + c.tcs_count * c.thread_block_stride;
  const std::uint64_t end = c.thread_block_offset + abi::kMaxTcs * c.thread_block_stride;
  bool last_used = false, next = false;
  image.for_each_run([&](const PageRun& run) {
    const std::uint64_t run_end = run.offset + run.count * sgx::kPageSize;
    EXPECT_TRUE(run_end <= unused || run.offset >= end) << std::hex << run.offset;
    last_used = last_used || run_end == unused;
    next = next || run.offset == end;
    EXPECT_TRUE(run.data.empty() || run.data.size() == run.count * sgx::kPageSize);
  });
  EXPECT_TRUE(last_used && next);
}

TEST(Image, AFileThatIsReplacedStaysWhatItWasForThoseWhoHaveIt) {
  const std::string path = testing::TempDir() + "/replaced.enclave";
  const auto bytes = hello_bytes();
  write(path, bytes);
  const Image image = Image::load(path);
  write(path + ".new", {1, 2, 3});
  std::filesystem::rename(path + ".new", path);
  image.check_file();
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), image.bytes().begin(), image.bytes().end()));
}

TEST(Image, AFileThatIsCutShortIsToldUntilItIsPutBack) {
  const std::string path = testing::TempDir() + "/cut.enclave";
  const auto bytes = hello_bytes();
  write(path, bytes);
  const Image image = Image::load(path);
  std::filesystem::resize_file(path, 4096);
  EXPECT_THROW(image.check_file(), Error);
  EXPECT_EQ(image.config().magic, kConfigMagic) << "a running enclave's is asked for at any time";
  EXPECT_NE(image.sigstruct().enclavehash, sgx::Measurement{});
  write(path, bytes);
  image.check_file();
  EXPECT_EQ(measure(image), image.sigstruct().enclavehash);
}

TEST(Image, AnEmptyFileIsRefused) {
  EXPECT_NE(refusal({}).find("no ELF header"), std::string::npos);
}

TEST(Image, EveryTruncationIsRefused) {
  const auto bytes = hello_bytes();
  for (std::size_t n : {1u, 63u, 64u, 1000u, 100000u}) {
    EXPECT_NE(refusal({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n)}), "accepted") << n;
  }
  EXPECT_NE(refusal({bytes.begin(), bytes.end() - 64}), "accepted");
}

TEST(Image, AnotherMachineOrTypeIsRefused) {
  auto bytes = hello_bytes();
  header(bytes).e_machine = EM_386;
  EXPECT_NE(refusal(bytes).find("static-PIE"), std::string::npos);
  bytes = hello_bytes();
  header(bytes).e_type = ET_EXEC;
  EXPECT_NE(refusal(bytes).find("static-PIE"), std::string::npos);
}

TEST(Image, AWritableAndExecutableSegmentIsRefused) {
  auto bytes = hello_bytes();
  segment(bytes, PF_R | PF_X).p_flags |= PF_W;
  EXPECT_NE(refusal(bytes).find("writable and executable"), std::string::npos);
}

TEST(Image, OverlappingSegmentsAreRefused) {
  auto bytes = hello_bytes();
  segment(bytes, PF_R | PF_W).p_vaddr = 0x1000;
  EXPECT_NE(refusal(bytes).find("overlapping"), std::string::npos);
}

TEST(Image, ASegmentThatTheFileHasAtAnotherPlaceOfAPageIsRefused) {
  auto bytes = hello_bytes();
  Elf64_Phdr& data = segment(bytes, PF_R | PF_W);
  data.p_offset += 8;
  data.p_filesz -= 8;
  EXPECT_NE(refusal(bytes).find("alignment"), std::string::npos);
}

TEST(Image, ASegmentOutsideTheFileIsRefused) {
  auto bytes = hello_bytes();
  segment(bytes, PF_R | PF_W).p_offset = std::uint64_t{1} << 60;
  EXPECT_NE(refusal(bytes).find("outside the file"), std::string::npos);
}

TEST(Image, AnUnsignedImageIsRefused) {
  Image image(hello_bytes(), "hello");
  image.config().magic = 0;
  EXPECT_THROW(image.check_config(), Error);
}

TEST(Image, InconsistentConfigurationsAreRefused) {
  const auto changed = [](auto change) {
    Image image(hello_bytes(), "hello");
    change(image.config());
    try {
      image.check_config();
    } catch (const Error&) {
      return true;
    }
    return false;
  };
  EXPECT_TRUE(changed([](EnclaveConfig& c) { c.tcs_count = 1; }));
  EXPECT_TRUE(changed([](EnclaveConfig& c) { c.tcs_count = 1000; }));
  EXPECT_TRUE(changed([](EnclaveConfig& c) { c.ecall_threads = 1000; }));
  EXPECT_TRUE(changed([](EnclaveConfig& c) { c.elrange_size = 12345; }));
  EXPECT_TRUE(changed([](EnclaveConfig& c) { c.elrange_size = 4096; }));
  EXPECT_TRUE(changed([](EnclaveConfig& c) { c.heap_offset = 0; }));
  EXPECT_TRUE(changed([](EnclaveConfig& c) { c.heap_size = ~std::uint64_t{0} & ~std::uint64_t{4095}; }));
  EXPECT_TRUE(changed([](EnclaveConfig& c) { c.thread_stride += 4096; }));
  EXPECT_TRUE(changed([](EnclaveConfig& c) { c.slot_bytes = 1; }));
  EXPECT_TRUE(changed([](EnclaveConfig& c) { c.thread_block_offset += 1; }));
  EXPECT_TRUE(changed([](EnclaveConfig& c) { c.thread_block_offset = c.image_size; }));
  EXPECT_TRUE(changed([](EnclaveConfig& c) { c.thread_block_stride = ~std::uint64_t{0} << 12; }));
  EXPECT_TRUE(changed([](EnclaveConfig& c) { c.cpuid_count = 1000; }));
  EXPECT_TRUE(changed([](EnclaveConfig& c) { c.version = 99; }));
  EXPECT_FALSE(changed([](EnclaveConfig&) {}));
}

// Random damage in the headers never crashes the reader (ASan runs this, too).
TEST(Image, RandomDamageIsRefusedOrHarmless) {
  const auto bytes = hello_bytes();
  std::mt19937 random(7);
  for (int i = 0; i < 300; ++i) {
    auto damaged = bytes;
    for (int k = 0; k < 4; ++k) {
      const std::size_t at = random() % (i % 2 == 0 ? 1024 : damaged.size());
      damaged[at] = static_cast<std::uint8_t>(random());
    }
    try {
      Image image(std::move(damaged), "test");
      image.check_config();
      std::uint64_t pages = 0;
      image.for_each_run([&](const PageRun& run) { pages += run.count; });
      EXPECT_LE(pages, image.config().elrange_size / sgx::kPageSize + 80);
    } catch (const Error& e) {
      EXPECT_EQ(std::strchr(e.what(), '\n'), nullptr);
    }
  }
}

}  // namespace
}  // namespace sealift::host
