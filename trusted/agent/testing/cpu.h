// A machine for tests: EREPORT with one secret a machine, as SDM 3D has it (a CMAC under a key that only the target on
// the same machine can derive). Two TestCpu are two machines.
#pragma once

#include <cstdint>
#include <memory>
#include <random>

#include "trusted/agent/platform.h"

namespace sealift::agent::testing {

class TestCpu {
 public:
  explicit TestCpu(std::uint8_t secret) : secret_(secret) {}
  [[nodiscard]] sgx::Report ereport(const sgx::ReportBody& self, const sgx::Targetinfo& target,
                                    const ReportData& data) const;
  // As the enclave `self` would: with the report key of its own measurement and attributes.
  [[nodiscard]] bool verify(const sgx::ReportBody& self, const sgx::Report& report) const;

 private:
  void mac(const sgx::Measurement& measurement, const sgx::Attributes& attributes, sgx::Report& report) const;
  std::uint8_t secret_;
};

[[nodiscard]] sgx::Targetinfo targetinfo_of(const sgx::ReportBody& body);

// An enclave's view of its TestCpu.
class TestPlatform final : public Platform {
 public:
  TestPlatform(const TestCpu& cpu, const sgx::ReportBody& self, std::uint32_t seed)
      : cpu_(cpu), self_(self), random_(seed) {}
  sgx::Targetinfo self_target() override { return targetinfo_of(self_); }
  Errc make_report(const sgx::Targetinfo& target, const ReportData& data, sgx::Report* out) override;
  Errc verify_report(const sgx::Report& report) override;
  Errc random(std::span<std::uint8_t> out) override;
  std::uint64_t now() override { return time; }

  std::uint64_t time = 1'000'000;
  bool entropy_fails = false;

 private:
  const TestCpu& cpu_;
  sgx::ReportBody self_;
  std::mt19937 random_;
};

// Bodies of REPORTs: the agent of these tests, and application enclaves told apart by `fill`.
[[nodiscard]] sgx::ReportBody agent_body();
[[nodiscard]] sgx::ReportBody app_body(std::uint8_t fill);

}  // namespace sealift::agent::testing
