#include "trusted/core/report.h"

#include "trusted/core/crypto.h"
#include "trusted/core/instance.h"
#include "trusted/core/leaves.h"
#include "trusted/core/memory.h"

namespace sealift::core {

bool verify_report(const sgx::Report& report) noexcept {
  sgx::Keyrequest request{};
  request.keyname = sgx::KeyName::kReport;
  copy(request.keyid, report.keyid, sizeof request.keyid);
  Key128 key;
  ScopedWipe wipe_key(key);
  if (egetkey(request, key) != 0) return false;
  std::uint8_t mac[16];
  cmac(key.bytes, &report.body, sizeof report.body, mac);
  return equal_ct(mac, report.mac, sizeof mac);
}

void own_report(sgx::ReportBody& out) noexcept {
  alignas(512) static constexpr sgx::Targetinfo kNobody{};
  AlignedReport report;
  const ReportData none{};
  ereport(kNobody, none, report);
  copy(&out, &report.report.body, sizeof out);
}

}  // namespace sealift::core
