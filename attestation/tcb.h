// What Intel says of a platform's or a QE's trusted computing base, as published in TCB info and QE identity.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "attestation/bytes.h"
#include "sgx/quote.h"

namespace sealift::attestation {

// In the order of migration/config.h's tcb:: bits: bit n of an accepted set is the status with value n. kRevoked has
// no bit, so no policy can accept it.
enum class TcbStatus : std::uint8_t {
  kUpToDate = 0,
  kSwHardeningNeeded = 1,
  kConfigurationNeeded = 2,
  kConfigurationAndSwHardeningNeeded = 3,
  kOutOfDate = 4,
  kOutOfDateConfigurationNeeded = 5,
  kRevoked = 6,
};

// "UpToDate", "SWHardeningNeeded", … as Intel spells it.
[[nodiscard]] const char* tcb_status_name(TcbStatus status) noexcept;
[[nodiscard]] std::optional<TcbStatus> parse_tcb_status(std::string_view name) noexcept;

// The status of a platform whose QE has a status of its own: an out-of-date or revoked QE lowers a better platform
// (Intel DCAP's QVL converges them in the same way).
[[nodiscard]] TcbStatus combine(TcbStatus platform, TcbStatus qe) noexcept;

using TcbComponents = std::array<std::uint8_t, sgx::quote::kTcbComponents>;

struct TcbLevel {
  TcbComponents components{};
  std::uint16_t pcesvn = 0;
  UnixTime tcb_date = 0;
  TcbStatus status = TcbStatus::kRevoked;
  std::vector<std::string> advisories;
};

struct TcbInfo {
  std::string id;  // "SGX"; version 2 has none and means SGX
  std::uint32_t version = 0;
  UnixTime issue_date = 0;
  UnixTime next_update = 0;
  std::array<std::uint8_t, 6> fmspc{};
  std::array<std::uint8_t, 2> pceid{};
  std::uint32_t evaluation_number = 0;
  std::vector<TcbLevel> levels;  // best first, as published
};

struct QeLevel {
  std::uint16_t isvsvn = 0;
  UnixTime tcb_date = 0;
  TcbStatus status = TcbStatus::kRevoked;
  std::vector<std::string> advisories;
};

struct QeIdentity {
  std::string id;  // "QE"
  std::uint32_t version = 0;
  UnixTime issue_date = 0;
  UnixTime next_update = 0;
  std::uint32_t evaluation_number = 0;
  std::array<std::uint8_t, 4> miscselect{}, miscselect_mask{};
  std::array<std::uint8_t, 16> attributes{}, attributes_mask{};
  std::array<std::uint8_t, 32> mrsigner{};
  std::uint16_t isvprodid = 0;
  std::vector<QeLevel> levels;  // best first, as published
};

}  // namespace sealift::attestation
