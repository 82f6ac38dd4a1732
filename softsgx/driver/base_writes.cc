// Code of an enclave on a kernel that does not keep FS and GS base: softsgx/cpu/bases.h.
#include <sys/mman.h>

#include <cstring>

#include "softsgx/cpu/bases.h"
#include "softsgx/driver/enclave.h"

namespace softsgx {

// The bytes of a page that can be executed but not written; null if it is none.
std::uint8_t* Enclave::code(std::uint64_t page) noexcept {
  const EpcIndex epc = page < table_.pages() ? table_.page(page) : kNotEpc;
  if (epc == kNotEpc || (machine_.page_rights(epc) & (PROT_EXEC | PROT_WRITE)) != PROT_EXEC) return nullptr;
  return reinterpret_cast<std::uint8_t*>(machine_.page(epc));
}

void Enclave::trap_base_writes(std::uint64_t first, std::uint64_t end) noexcept {
  if (!Bases::by_system_calls() || lost()) return;
  for (std::uint64_t page = first; page < end; ++page) {
    std::uint8_t* const bytes = code(page);
    if (!bytes) continue;
    std::uint8_t* const past = bytes + sgx::kPageSize;
    for (std::uint8_t* at = bytes; at < past; ++at) {
      at = static_cast<std::uint8_t*>(std::memchr(at, Bases::kPrefix, static_cast<std::size_t>(past - at)));
      if (!at) break;
      const auto byte = [&](std::size_t i) -> std::uint8_t* {  // it may continue on the next page
        if (at + i < past) return at + i;
        std::uint8_t* const next = code(page + 1);
        return next ? next + (at + i - past) : nullptr;
      };
      std::uint8_t insn[Bases::kInsnBytes] = {};
      for (std::size_t i = 0; i < sizeof insn; ++i) insn[i] = byte(i) ? *byte(i) : std::uint8_t{0};
      if (Bases::is_write(insn)) *byte(Bases::kOpcode) = Bases::kTrap;
    }
  }
}

}  // namespace softsgx
