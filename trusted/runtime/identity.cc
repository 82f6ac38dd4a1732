#include <cstring>

#include "sealift/trusted.h"
#include "trusted/core/core.h"
#include "trusted/core/leaves.h"
#include "trusted/core/report.h"

namespace sealift {

Identity identity() {
  Identity id{};
  std::uint8_t lineage[16];
  core::lineage(lineage);
  std::memcpy(id.lineage.data(), lineage, sizeof lineage);
  id.epoch = core::epoch();
  return id;
}

sgx::Report report(const sgx::Targetinfo& target, const std::array<std::uint8_t, 64>& data) {
  const sgx::Targetinfo aligned_target = target;
  core::ReportData report_data;
  core::AlignedReport out;
  std::memcpy(report_data.bytes, data.data(), sizeof report_data.bytes);
  core::ereport(aligned_target, report_data, out);
  return out.report;
}

bool verify_report(const sgx::Report& report) {
  return core::verify_report(report);
}

Result<std::array<std::uint8_t, 16>> seal_key(const std::array<std::uint8_t, 32>& key_id) {
  sgx::Keyrequest request{};
  request.keyname = sgx::KeyName::kSeal;
  request.keypolicy = sgx::keypolicy::kMrenclave;
  // Every attribute but the ones that a production enclave cannot choose is bound into the key.
  request.attributemask = {~std::uint64_t{0}, ~std::uint64_t{0}};
  std::memcpy(request.keyid, key_id.data(), sizeof request.keyid);
  core::Key128 key;
  if (core::egetkey(request, key) != 0) return Errc::kKeyLeaf;
  std::array<std::uint8_t, 16> out{};
  std::memcpy(out.data(), key.bytes, sizeof key.bytes);
  return out;
}

}  // namespace sealift
