#include "trusted/agent/testing/cpu.h"

#include <cstring>

#include "trusted/agent/crypto.h"

namespace sealift::agent::testing {

void TestCpu::mac(const sgx::Measurement& measurement, const sgx::Attributes& attributes, sgx::Report& report) const {
  const Digest digest = sha256({{&secret_, 1},
                                bytes_of(measurement),
                                bytes_of(attributes),
                                bytes_of(report.body),
                                {report.keyid, sizeof(report.keyid)}});
  std::memcpy(report.mac, digest.data(), sizeof(report.mac));
}

sgx::Report TestCpu::ereport(const sgx::ReportBody& self, const sgx::Targetinfo& target, const ReportData& data) const {
  sgx::Report report{};
  report.body = self;
  std::memcpy(report.body.reportdata, data.data(), data.size());
  mac(target.measurement, target.attributes, report);
  return report;
}

bool TestCpu::verify(const sgx::ReportBody& self, const sgx::Report& report) const {
  sgx::Report expected = report;
  mac(self.mrenclave, self.attributes, expected);
  return std::memcmp(expected.mac, report.mac, sizeof(report.mac)) == 0;
}

sgx::Targetinfo targetinfo_of(const sgx::ReportBody& body) {
  sgx::Targetinfo target{};
  target.measurement = body.mrenclave;
  target.attributes = body.attributes;
  return target;
}

Errc TestPlatform::make_report(const sgx::Targetinfo& target, const ReportData& data, sgx::Report* out) {
  *out = cpu_.ereport(self_, target, data);
  return Errc::kOk;
}

Errc TestPlatform::verify_report(const sgx::Report& report) {
  return cpu_.verify(self_, report) ? Errc::kOk : Errc::kBadReport;
}

Errc TestPlatform::random(std::span<std::uint8_t> out) {
  if (entropy_fails) return Errc::kEntropy;
  for (std::uint8_t& byte : out) byte = static_cast<std::uint8_t>(random_());
  return Errc::kOk;
}

sgx::ReportBody agent_body() {
  sgx::ReportBody body{};
  std::memset(body.mrenclave.bytes, 0xa9, sizeof(body.mrenclave.bytes));
  std::memset(body.mrsigner.bytes, 0x51, sizeof(body.mrsigner.bytes));
  body.attributes = {sgx::attribute::kInit | sgx::attribute::kMode64Bit, sgx::xfrm::kLegacy};
  return body;
}

sgx::ReportBody app_body(std::uint8_t fill) {
  sgx::ReportBody body = agent_body();
  std::memset(body.mrenclave.bytes, fill, sizeof(body.mrenclave.bytes));
  return body;
}

}  // namespace sealift::agent::testing
