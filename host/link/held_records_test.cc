#include "host/link/held_records.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "migration/record.h"

namespace sealift::host {
namespace {

// Dumps so many groups, the last with a final record; notes what it is given.
class Port final : public ControlPort {
 public:
  explicit Port(std::size_t groups) : groups_(groups) {}
  Errc control(abi::ControlOp op, std::span<const std::byte> in, std::vector<std::byte>& out) override {
    out.clear();
    if (op == abi::ControlOp::kRecord) given.push_back(in);
    if (op != abi::ControlOp::kDump) return Errc::kOk;
    if (++dumped == fails_at) return Errc::kCrashed;
    out.assign(kGroup, std::byte(dumped));
    record::RecordHeader header{};
    header.kind = static_cast<std::uint16_t>(dumped == groups_ ? record::Kind::kFinal : record::Kind::kPages);
    std::memcpy(out.data(), &header, sizeof header);
    return Errc::kOk;
  }
  Errc quiesce(std::chrono::milliseconds) override { return Errc::kOk; }
  Errc settle(std::chrono::milliseconds) override { return Errc::kOk; }
  void resumed() override {}
  void destroyed() override {}
  void abandoned(Errc) override {}
  Errc status(abi::Status&) override { return Errc::kOk; }

  static constexpr std::size_t kGroup = 150'000;
  std::size_t dumped = 0, fails_at = 0;
  std::vector<std::span<const std::byte>> given;  // as long as the records are held

 private:
  const std::size_t groups_;
};

bool mapped(std::span<const std::byte> bytes) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  unsigned char resident = 0;
  return ::mincore(reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(bytes.data()) / page * page), 1,
                   &resident) == 0;
}

TEST(HeldRecords, AreGivenAsTheyWereDumpedAndMoreThanOnce) {
  Port port(3);
  HeldRecords records;
  ASSERT_EQ(records.take(port), Errc::kOk);
  EXPECT_EQ(records.bytes(), 3 * Port::kGroup);
  for (int i = 0; i < 2; ++i) {
    port.given.clear();
    ASSERT_EQ(records.give(port), Errc::kOk);
    ASSERT_EQ(port.given.size(), 3u);
    for (std::size_t group = 0; group < 3; ++group) EXPECT_EQ(port.given[group].back(), std::byte(group + 1));
  }
}

// Not to malloc, which would keep it for later.
TEST(HeldRecords, GiveTheirMemoryBackToTheSystem) {
  Port port(8);
  HeldRecords records;
  ASSERT_EQ(records.take(port), Errc::kOk);
  ASSERT_EQ(records.give(port), Errc::kOk);
  for (const auto group : port.given) EXPECT_TRUE(mapped(group));
  records.drop();
  for (const auto group : port.given) EXPECT_FALSE(mapped(group));
  EXPECT_EQ(records.bytes(), 0u);
  EXPECT_EQ(records.give(port), Errc::kNotReady);
}

TEST(HeldRecords, AreAllOrNone) {
  Port port(5);
  port.fails_at = 3;
  HeldRecords records;
  EXPECT_EQ(records.take(port), Errc::kCrashed);
  EXPECT_EQ(records.bytes(), 0u);
}

}  // namespace
}  // namespace sealift::host
