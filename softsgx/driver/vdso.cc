#include "softsgx/driver/vdso.h"

#include <elf.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "sgx/arch.h"
#include "softsgx/isa/raw_syscall.h"

extern "C" {
extern const char softsgx_vdso_image[], softsgx_vdso_image_end[];
extern const char softsgx_enter_enclave[], softsgx_vdso_enclu[], softsgx_vdso_exception[];
}

namespace softsgx {
namespace {

// In the order of vdso/image.S.
constexpr const char* kForwarded[] = {"__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_time",
                                      "__vdso_clock_getres",  "__vdso_getcpu",       "__vdso_getrandom"};
constexpr std::size_t kSlots = 1 + sizeof kForwarded / sizeof kForwarded[0];

long not_there() noexcept {
  return -ENOSYS;
}

const std::byte* at(const ElfW(Ehdr) * image, std::uint64_t offset) noexcept {
  return reinterpret_cast<const std::byte*>(image) + offset;
}

ElfW(auxv_t) * auxiliary_vector(char** envp) noexcept {
  while (*envp) ++envp;
  return reinterpret_cast<ElfW(auxv_t)*>(envp + 1);
}

struct Dynamic {
  const ElfW(Sym) * symbols = nullptr;
  const char* strings = nullptr;
  const std::uint32_t* hash = nullptr;      // DT_HASH: its second word is the number of symbols
  const std::uint32_t* gnu_hash = nullptr;  // newer kernels' vDSO has only this one
};

// The last symbol's index + 1, from the GNU hash table: follow the chain of the highest bucket to its end.
std::size_t gnu_hash_symbols(const std::uint32_t* table) noexcept {
  const std::uint32_t buckets = table[0], first = table[1], bloom_words = table[2];
  const std::uint32_t* bucket = table + 4 + std::size_t{bloom_words} * 2;
  std::uint32_t last = 0;
  for (std::uint32_t i = 0; i < buckets; ++i) last = bucket[i] > last ? bucket[i] : last;
  if (last < first) return first;
  const std::uint32_t* chain = bucket + buckets;
  while (!(chain[last - first] & 1)) ++last;
  return last + 1;
}

Dynamic dynamic_section(const ElfW(Ehdr) * image) noexcept {
  Dynamic d;
  const auto* headers = reinterpret_cast<const ElfW(Phdr)*>(at(image, image->e_phoff));
  std::uint64_t bias = 0;  // a vDSO is linked at 0 or at its load offset
  const ElfW(Dyn)* dynamic = nullptr;
  for (int i = 0; i < image->e_phnum; ++i) {
    if (headers[i].p_type == PT_LOAD) bias = headers[i].p_offset - headers[i].p_vaddr;
  }
  for (int i = 0; i < image->e_phnum; ++i) {
    if (headers[i].p_type == PT_DYNAMIC)
      dynamic = reinterpret_cast<const ElfW(Dyn)*>(at(image, headers[i].p_vaddr + bias));
  }
  for (; dynamic && dynamic->d_tag != DT_NULL; ++dynamic) {
    const std::byte* p = at(image, dynamic->d_un.d_ptr + bias);
    if (dynamic->d_tag == DT_SYMTAB) d.symbols = reinterpret_cast<const ElfW(Sym)*>(p);
    if (dynamic->d_tag == DT_STRTAB) d.strings = reinterpret_cast<const char*>(p);
    if (dynamic->d_tag == DT_HASH) d.hash = reinterpret_cast<const std::uint32_t*>(p);
    if (dynamic->d_tag == DT_GNU_HASH) d.gnu_hash = reinterpret_cast<const std::uint32_t*>(p);
  }
  return d;
}

void fill_slots(std::uint64_t* slots, const ElfW(Ehdr) * kernels) noexcept {
  slots[0] = reinterpret_cast<std::uint64_t>(softsgx_enter_enclave);
  for (std::size_t i = 1; i < kSlots; ++i) {
    void* f = kernels ? vdso_symbol(kernels, kForwarded[i - 1]) : nullptr;
    slots[i] = f ? reinterpret_cast<std::uint64_t>(f) : reinterpret_cast<std::uint64_t>(&not_there);
  }
}

}  // namespace

void* vdso_symbol(const ElfW(Ehdr) * image, const char* name) noexcept {
  const Dynamic d = dynamic_section(image);
  if (!d.symbols || !d.strings || (!d.hash && !d.gnu_hash)) return nullptr;
  const std::size_t count = d.hash ? d.hash[1] : gnu_hash_symbols(d.gnu_hash);
  for (std::size_t i = 0; i < count; ++i) {
    const ElfW(Sym)& s = d.symbols[i];
    if (s.st_shndx != SHN_UNDEF && !std::strcmp(d.strings + s.st_name, name)) {
      return const_cast<std::byte*>(at(image, s.st_value));
    }
  }
  return nullptr;
}

bool install_vdso(char** envp) noexcept {
  ElfW(auxv_t)* entry = auxiliary_vector(envp);
  while (entry->a_type != AT_SYSINFO_EHDR && entry->a_type != AT_NULL) ++entry;
  if (entry->a_type == AT_NULL) return false;
  const auto* kernels = reinterpret_cast<const ElfW(Ehdr)*>(entry->a_un.a_val);

  const auto bytes = static_cast<std::size_t>(softsgx_vdso_image_end - softsgx_vdso_image);
  const std::size_t mapped = (bytes + sgx::kPageSize - 1) & ~(sgx::kPageSize - 1);
  const long memory =
      raw::call(SYS_mmap, 0, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, ~std::uint64_t{0}, 0);
  if (memory < 0 && memory > -4096) return false;
  auto* image = reinterpret_cast<std::byte*>(memory);
  std::memcpy(image, softsgx_vdso_image, bytes);
  const auto* header = reinterpret_cast<const ElfW(Ehdr)*>(image);
  const auto* segment = reinterpret_cast<const ElfW(Phdr)*>(at(header, header->e_phoff));
  while (segment->p_type != PT_LOAD) ++segment;
  fill_slots(reinterpret_cast<std::uint64_t*>(image + segment->p_filesz) - kSlots, kernels);
  if (raw::call(SYS_mprotect, raw::arg(image), mapped, PROT_READ | PROT_EXEC) != 0) return false;
  entry->a_un.a_val = reinterpret_cast<std::uint64_t>(image);
  return true;
}

std::uint64_t vdso_enclu_address() noexcept {
  return reinterpret_cast<std::uint64_t>(softsgx_vdso_enclu);
}

std::uint64_t vdso_exception_address() noexcept {
  return reinterpret_cast<std::uint64_t>(softsgx_vdso_exception);
}

}  // namespace softsgx
