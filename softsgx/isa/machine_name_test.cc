#include "softsgx/isa/machine_name.h"

#include <cstring>
#include <fstream>

#include "softsgx/isa/test_support.h"

namespace softsgx::test {
namespace {

class MachineNameTest : public MachineTest {};

TEST_F(MachineNameTest, APathIsAMachineFile) {
  std::string error;
  const std::string name = resolve_machine_name(file("machine"), error);
  EXPECT_EQ(name, file("machine"));
  EXPECT_NE(open_machine(name, error), nullptr) << error;
}

TEST_F(MachineNameTest, AnOffsetIsAMachineInsideAFile) {
  std::ifstream in(file("machine"), std::ios::binary);
  std::ofstream out(file("blob"), std::ios::binary);
  out << std::string(2 * sgx::kPageSize, 'x') << in.rdbuf();
  out.close();
  std::string error;
  const std::string name = resolve_machine_name(file("blob") + "@0x2000", error);
  EXPECT_EQ(name, file("blob") + "@0x2000");
  const auto m = open_machine(name, error);
  ASSERT_NE(m, nullptr) << error;
  EXPECT_EQ(m->generation(), machine_->generation());
}

TEST_F(MachineNameTest, AFileWhoseNameHasASignIsThatFile) {
  std::filesystem::copy(file("machine"), file("m@0x10"));
  std::string error;
  EXPECT_NE(open_machine(file("m@0x10"), error), nullptr) << error;
}

TEST_F(MachineNameTest, NonsenseBehindTheSignIsRefused) {
  std::string error;
  EXPECT_EQ(resolve_machine_name(file("machine") + "@0xzz", error), "");
  EXPECT_NE(error.find("no machine"), std::string::npos) << error;
  EXPECT_EQ(open_machine(file("machine") + "@0x10zz", error), nullptr);
  EXPECT_NE(error.find("hexadecimal"), std::string::npos) << error;
}

TEST_F(MachineNameTest, AMissingFileSaysWhatToDo) {
  std::string error;
  EXPECT_EQ(resolve_machine_name(file("none"), error), "");
  EXPECT_NE(error.find("softsgx create"), std::string::npos) << error;
}

// A table with an SPA range structure, as QEMU's.
std::vector<char> nfit() {
  std::vector<char> t(40 + 56 + 48);
  t[42] = 56;
  const std::uint64_t base = 0x100000000;
  std::memcpy(&t[40 + 32], &base, sizeof base);
  t[40 + 56] = 1;
  t[40 + 56 + 2] = 48;
  return t;
}

TEST(NvdimmAddresses, AreThoseOfAddressRanges) {
  EXPECT_EQ(nvdimm_addresses(nfit()), std::vector<std::uint64_t>{0x100000000});
  EXPECT_TRUE(nvdimm_addresses({}).empty());
}

TEST(NvdimmAddresses, BadLengthsEndTheTable) {
  for (const char length : {char{0}, char{3}, char{127}}) {
    std::vector<char> t = nfit();
    t[42] = length;
    t.resize(40 + 56);
    EXPECT_TRUE(nvdimm_addresses(t).empty()) << int{length};
  }
}

TEST(NvdimmAddresses, ATruncatedTableIsNoReadPastItsEnd) {
  const std::vector<char> whole = nfit();
  for (std::size_t n = 0; n < whole.size(); ++n) {
    EXPECT_LE(nvdimm_addresses(std::span(whole).first(n)).size(), 1u);
  }
}

}  // namespace
}  // namespace softsgx::test
