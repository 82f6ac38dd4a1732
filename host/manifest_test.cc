#include "host/manifest.h"

#include <gtest/gtest.h>

#include "host/baseline.h"

namespace sealift::host {
namespace {

constexpr char kGood[] = R"(
name = "x"
isvprodid = 7
isvsvn = 2
debug = true
[memory]
heap = "8M"
stack = "128K"
slot = "16K"
[threads]
ecall = 3
pool = 5
[cpu]
baseline = "x86-64-v4"
features = ["vaes"]
[migration]
allow = true
development = true
agent = { mrsigner = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", isvprodid = 2, min_isvsvn = 1 }
tcb = ["UpToDate", "SWHardeningNeeded"]
)";

// The error's one line for this text.
std::string refusal(const std::string& text) {
  try {
    static_cast<void>(parse_manifest(text, "test.toml"));
  } catch (const Error& e) {
    return e.what();
  }
  return "accepted";
}

std::string with(const std::string& from, const std::string& to) {
  std::string text = kGood;
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(Manifest, ReadsEveryKey) {
  const Manifest m = parse_manifest(kGood, "test.toml");
  const EnclaveConfig& c = m.config;
  EXPECT_STREQ(reinterpret_cast<const char*>(c.name), "x");
  EXPECT_EQ(m.isvprodid, 7);
  EXPECT_EQ(m.isvsvn, 2);
  EXPECT_NE(m.attributes.flags & sgx::attribute::kDebug, 0u);
  EXPECT_EQ(c.heap_size, 8u << 20);
  EXPECT_EQ(c.stack_size, 128u << 10);
  EXPECT_EQ(c.slot_bytes, 16u << 10);
  EXPECT_EQ(c.ecall_threads, 3u);
  EXPECT_EQ(c.tcs_count, 2u + 3 + 5);
  EXPECT_EQ(c.xfrm, 0xe7u);
  EXPECT_EQ(c.policy.flags, policy::kAllowMigration | policy::kDevelopment);
  EXPECT_EQ(c.policy.tcb_accepted, tcb::kUpToDate | tcb::kSwHardeningNeeded);
  EXPECT_EQ(c.policy.agent_pin, static_cast<std::uint32_t>(AgentPin::kMrsigner));
  EXPECT_EQ(c.policy.agent.bytes[1], 0x11);
}

TEST(Manifest, AMisspeltKeyIsAnErrorAndNotADefault) {
  EXPECT_EQ(refusal(with("allow = true", "alow = true")), "test.toml: migration.alow: unknown key");
}

TEST(Manifest, ASyntaxErrorNamesItsLine) {
  EXPECT_NE(refusal("name = \"x\"\nheap = = 1\n").find("test.toml:2:"), std::string::npos);
}

TEST(Manifest, MigrationWithoutAPinnedAgentIsRefused) {
  EXPECT_NE(refusal("name = \"x\"\n[migration]\nallow = true\n").find("must be pinned"), std::string::npos);
}

TEST(Manifest, AnAgentByBothNamesOrNoneIsRefused) {
  EXPECT_NE(refusal("name = \"x\"\n[migration]\nagent = { isvprodid = 2 }\n").find("one of them"), std::string::npos);
}

TEST(Manifest, ASignerWithoutAProductIdIsRefused) {
  EXPECT_NE(refusal(with(", isvprodid = 2", "")).find("must be given with mrsigner"), std::string::npos);
}

TEST(Manifest, HexOfTheWrongLengthIsRefused) {
  EXPECT_NE(refusal(with("0011223344", "00112233")).find("64 hexadecimal digits"), std::string::npos);
}

TEST(Manifest, SizesMustBeWholePagesWithinLimits) {
  EXPECT_NE(refusal(with("\"8M\"", "\"8000001\"")).find("memory.heap"), std::string::npos);
  EXPECT_NE(refusal(with("\"8M\"", "\"99G\"")).find("memory.heap"), std::string::npos);
  EXPECT_NE(refusal(with("\"8M\"", "\"lots\"")).find("memory.heap"), std::string::npos);
  EXPECT_NE(refusal(with("\"8M\"", "\"4K\"")).find("at least"), std::string::npos);
}

TEST(Manifest, WrongTypesAreRefused) {
  EXPECT_NE(refusal(with("ecall = 3", "ecall = \"3\"")).find("wrong type"), std::string::npos);
  EXPECT_NE(refusal(with("debug = true", "debug = 1")).find("wrong type"), std::string::npos);
}

TEST(Manifest, TooManyThreadsAreRefused) {
  EXPECT_NE(refusal(with("pool = 5", "pool = 76")).find("at most 78 together"), std::string::npos);
}

TEST(Manifest, UnknownBaselineFeatureAndTcbStatusAreNamed) {
  EXPECT_NE(refusal(with("x86-64-v4", "x86-64-v9")).find("x86-64-v9"), std::string::npos);
  EXPECT_NE(refusal(with("\"vaes\"", "\"vaess\"")).find("vaess"), std::string::npos);
  EXPECT_NE(refusal(with("\"UpToDate\"", "\"Perfect\"")).find("Perfect"), std::string::npos);
}

TEST(Manifest, ANameIsNeeded) {
  EXPECT_NE(refusal("isvsvn = 1\n").find("name"), std::string::npos);
}

TEST(Manifest, AMissingFileIsOneLine) {
  EXPECT_THROW(static_cast<void>(load_manifest("/nowhere/x.toml")), Error);
}

// What the compiler's own feature test says of this CPU is the reference.
TEST(Baseline, WhatThisCpuLacksIsNamed) {
  EnclaveConfig c{};
  c.cpuid_count = 1;
  c.cpuid[0] = {7, 0, 0, 0, 0, 0};
  EXPECT_EQ(missing_on_this_cpu(c), "");
  const Baseline v4 = make_baseline("x86-64-v4", {"rdseed", "sha", "adx", "vaes", "gfni", "avx512ifma", "avx512vbmi"});
  c.cpuid_count = static_cast<std::uint32_t>(v4.cpuid.size());
  std::copy(v4.cpuid.begin(), v4.cpuid.end(), c.cpuid);
  const std::string missing = missing_on_this_cpu(c);
  const auto named = [&](const char* feature) { return missing.find(feature) != std::string::npos; };
  EXPECT_EQ(named("vaes"), !__builtin_cpu_supports("vaes")) << missing;
  EXPECT_EQ(named("gfni"), !__builtin_cpu_supports("gfni")) << missing;
  EXPECT_EQ(named("avx512vbmi"), !__builtin_cpu_supports("avx512vbmi")) << missing;
}

}  // namespace
}  // namespace sealift::host
