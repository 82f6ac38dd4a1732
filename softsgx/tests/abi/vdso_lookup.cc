#include "softsgx/tests/abi/vdso_lookup.h"

#include <elf.h>
#include <sys/auxv.h>

#include <cstdint>
#include <cstring>

namespace third_party {

void* vdso_function(const char* name) {
  const std::uint64_t base = getauxval(AT_SYSINFO_EHDR);
  if (base == 0) return nullptr;
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(base);
  const auto* phdr = reinterpret_cast<const Elf64_Phdr*>(base + header->e_phoff);
  const Elf64_Dyn* dynamic = nullptr;
  std::uint64_t bias = 0;
  for (int i = 0; i < header->e_phnum; ++i) {
    if (phdr[i].p_type == PT_LOAD) bias = base + phdr[i].p_offset - phdr[i].p_vaddr;
    if (phdr[i].p_type == PT_DYNAMIC) dynamic = reinterpret_cast<const Elf64_Dyn*>(base + phdr[i].p_offset);
  }
  const Elf64_Sym* symbols = nullptr;
  const char* strings = nullptr;
  const std::uint32_t* hash = nullptr;
  for (; dynamic && dynamic->d_tag != DT_NULL; ++dynamic) {
    const std::uint64_t p = bias + dynamic->d_un.d_ptr;
    if (dynamic->d_tag == DT_SYMTAB) symbols = reinterpret_cast<const Elf64_Sym*>(p);
    if (dynamic->d_tag == DT_STRTAB) strings = reinterpret_cast<const char*>(p);
    if (dynamic->d_tag == DT_HASH) hash = reinterpret_cast<const std::uint32_t*>(p);
  }
  if (!symbols || !strings || !hash) return nullptr;
  for (std::uint32_t i = 0; i < hash[1]; ++i) {
    if (symbols[i].st_shndx != SHN_UNDEF && !std::strcmp(strings + symbols[i].st_name, name)) {
      return reinterpret_cast<void*>(bias + symbols[i].st_value);
    }
  }
  return nullptr;
}

}  // namespace third_party
