// Applies the image's R_X86_64_RELATIVE relocations. Core needs its libraries' tables in both roles, and in the role
// *restore* glibc's own start-up never runs. RELATIVE relocations are absolute writes (base + addend), so glibc's
// doing them again in the role *start* changes nothing.
#include <elf.h>

#include "trusted/core/area.h"
#include "trusted/core/instance.h"

extern "C" {
[[gnu::visibility("hidden")]] extern const Elf64_Dyn _DYNAMIC[];
}

namespace sealift::core {

void relocate() noexcept {
  const Elf64_Rela* rela = nullptr;
  std::uint64_t size = 0;
  for (const Elf64_Dyn* d = _DYNAMIC; d->d_tag != DT_NULL; ++d) {
    if (d->d_tag == DT_RELA) rela = static_cast<const Elf64_Rela*>(at(d->d_un.d_ptr));
    if (d->d_tag == DT_RELASZ) size = d->d_un.d_val;
  }
  for (std::uint64_t i = 0; rela != nullptr && i < size / sizeof(Elf64_Rela); ++i) {
    if (ELF64_R_TYPE(rela[i].r_info) != R_X86_64_RELATIVE) continue;
    *static_cast<std::uint64_t*>(at(rela[i].r_offset)) = base() + static_cast<std::uint64_t>(rela[i].r_addend);
  }
}

}  // namespace sealift::core
