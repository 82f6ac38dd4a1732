// The machine file, byte by byte; private to machine*.cc.
//
//   0       Header (checksummed, never changes)
//   4096    Control (changes under the lock)
//   8192    allocation bitmap, 64-bit words
//   …       EPCM, 64 bytes a page
//   …       EPC, page-aligned
#pragma once

#include <sys/mman.h>

#include <cstdint>

#include "softsgx/isa/machine.h"

namespace softsgx {

inline constexpr char kMachineMagic[8] = {'S', 'O', 'F', 'T', 'S', 'G', 'X', '\0'};
inline constexpr std::uint32_t kMachineVersion = 2;
// A section's file is a whole number of these: memory that a hypervisor may map with huge pages.
inline constexpr std::uint64_t kSectionAlignment = 2u << 20;

struct Machine::Layout {
  std::uint64_t bitmap = 0, epcm = 0, epc = 0, total = 0;
  static constexpr Layout of(std::uint64_t pages) noexcept {
    const auto round = [](std::uint64_t n) { return (n + sgx::kPageSize - 1) & ~std::uint64_t{sgx::kPageSize - 1}; };
    Layout l;
    l.bitmap = 2 * sgx::kPageSize;
    l.epcm = l.bitmap + round((pages + 63) / 64 * 8);
    l.epc = l.epcm + round(pages * sizeof(EpcmEntry));
    l.total = l.epc + pages * sgx::kPageSize;
    return l;
  }
};

struct Machine::Header {
  char magic[8];
  std::uint32_t version;
  std::uint32_t header_bytes;
  std::uint64_t epc_pages;
  std::uint64_t bitmap_offset, epcm_offset, epc_offset, total_bytes;
  std::uint64_t xfrm_allowed;
  std::uint64_t flags;  // kSection
  std::array<std::uint8_t, 16> cpusvn;
  Fuses fuses;
  std::uint8_t checksum[32];  // SHA-256 of all before
};
static_assert(sizeof(Machine::Header) <= sgx::kPageSize);
// An EPC section for a VM: free EPC reads as 0xff, as on silicon (SDM 3D, section 34.5.3, abort page), so that a thread
// which finds itself in it after the memory was exchanged raises #UD at its next instruction.
inline constexpr std::uint64_t kSection = 1;

struct Machine::Control {
  std::array<std::uint8_t, 32> report_keyid;
  std::uint64_t generation;        // see Machine::generation
  std::uint64_t lowest_free_word;  // every page below this word of the bitmap is allocated
};

// Holds the machine's lock; see machine.h, rule 2.
class Machine::Lock {
 public:
  explicit Lock(Machine& m) noexcept;
  ~Lock();
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  Machine& m_;
};

}  // namespace softsgx
