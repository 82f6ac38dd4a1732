// The development PKI: what stands in for Intel's provisioning service on a software machine.
//
// ITS PRIVATE KEYS ARE PUBLIC. They follow from kDevelopmentSeed, below, so anybody can sign anything with them: a
// quote that chains to this root proves nothing at all. It exists so that the code which makes, carries and verifies
// quotes is the same on software machines and on hardware. A verifier must believe this root only where a developer
// has said so.
#pragma once

#include "softsgx/isa/machine.h"
#include "softsgx/quoting/pki.h"

namespace softsgx::quoting {

inline constexpr char kDevelopmentSeed[] = "softsgx development root: this private key is public and proves nothing";

struct Authority {
  Key key;
  Cert certificate;
};

// The three certificate authorities; the same keys in every process. Immutable, so any thread may read it.
struct DevelopmentPki {
  DevelopmentPki();
  Authority root;         // "softsgx development SGX Root CA"
  Authority platform_ca;  // "… SGX PCK Platform CA", issues PCK certificates
  Authority tcb_signer;   // "… SGX TCB Signing", signs TCB info and QE identity
};

// Every software machine is of one family.
inline constexpr std::array<std::uint8_t, 6> kFmspc = {0x00, 0x53, 0x46, 0x54, 0x53, 0x58};
inline constexpr std::array<std::uint8_t, 2> kPceid = {0, 0};
inline constexpr std::uint16_t kPcesvn = 1;

// The software quoting enclave's identity. MRSIGNER is SHA-256 of a sentence, not of a key: nothing loads it.
inline constexpr std::uint16_t kQeIsvprodid = 1;
inline constexpr std::uint16_t kQeIsvsvn = 2;
[[nodiscard]] sgx::Measurement qe_mrenclave();
[[nodiscard]] sgx::Measurement qe_mrsigner();

// What the PCK certificate of a machine says: TCB component i is byte i of the machine's CPUSVN.
[[nodiscard]] PlatformTcb platform_of(const Machine& machine);

// The machine's PCK, derived from its fuses and CPUSVN.
[[nodiscard]] Key pck_key(const Machine& machine);

// The PEM chain that a quote of this machine carries: PCK certificate, platform CA, root.
[[nodiscard]] std::string pck_chain(const Machine& machine, const DevelopmentPki& pki);

// Collateral for software machines, as files of Intel's service: {name, contents}. Valid from `now` for
// kCollateralDays. CPUSVN 02 in bytes 0 to 7 (a new machine's) is UpToDate, 01 is OutOfDate, 00 is Revoked.
inline constexpr int kCollateralDays = 30;
struct CollateralFile {
  std::string name;
  std::string contents;
};
[[nodiscard]] std::vector<CollateralFile> development_collateral(const DevelopmentPki& pki, UnixTime now);

}  // namespace softsgx::quoting
