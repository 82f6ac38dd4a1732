#include "attestation/tcb.h"

namespace sealift::attestation {
namespace {

constexpr const char* kNames[] = {
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "Revoked",
};

}  // namespace

const char* tcb_status_name(TcbStatus status) noexcept {
  return kNames[static_cast<std::size_t>(status)];
}

std::optional<TcbStatus> parse_tcb_status(std::string_view name) noexcept {
  for (std::size_t i = 0; i < std::size(kNames); ++i) {
    if (name == kNames[i]) return static_cast<TcbStatus>(i);
  }
  return std::nullopt;
}

TcbStatus combine(TcbStatus platform, TcbStatus qe) noexcept {
  if (platform == TcbStatus::kRevoked || qe == TcbStatus::kRevoked) return TcbStatus::kRevoked;
  if (qe == TcbStatus::kUpToDate) return platform;
  // A QE is published as UpToDate, OutOfDate or Revoked; whatever else is signed one day counts as out of date.
  switch (platform) {
    case TcbStatus::kUpToDate:
    case TcbStatus::kSwHardeningNeeded:
    case TcbStatus::kOutOfDate:
      return TcbStatus::kOutOfDate;
    case TcbStatus::kConfigurationNeeded:
    case TcbStatus::kConfigurationAndSwHardeningNeeded:
    case TcbStatus::kOutOfDateConfigurationNeeded:
      return TcbStatus::kOutOfDateConfigurationNeeded;
    case TcbStatus::kRevoked:
      break;
  }
  return TcbStatus::kRevoked;
}

}  // namespace sealift::attestation
