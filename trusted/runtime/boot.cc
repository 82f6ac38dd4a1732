// The main thread's first stack, as the kernel would have made it (System V ABI, section 3.4.1): argc, argv, envp,
// auxv.
#include <elf.h>

#include "trusted/core/area.h"
#include "trusted/core/core.h"
#include "trusted/core/crypto.h"
#include "trusted/core/memory.h"

namespace sealift::runtime {
namespace {

// Without arena_max=1 each thread's malloc arena reserves 128 MiB; rseq needs the kernel's help (trap-engine.md).
constexpr char kEnvironment[] = "GLIBC_TUNABLES=glibc.malloc.arena_max=1:glibc.pthread.rseq=0";
constexpr std::uint64_t kMaxArgs = 64;

struct Stack {
  std::uint64_t sp;
  std::uint64_t push_bytes(const void* data, std::uint64_t len) noexcept {
    sp -= len;
    core::copy(reinterpret_cast<void*>(sp), data, len);
    return sp;
  }
  void push(std::uint64_t v) noexcept { push_bytes(&v, sizeof v); }
  void aux(std::uint64_t type, std::uint64_t value) noexcept {
    push(value);
    push(type);
  }
};

}  // namespace
}  // namespace sealift::runtime

extern "C" std::uint64_t sealift_boot(std::uint64_t stack_top, const char* argv, std::uint64_t len) {
  using namespace sealift;
  using namespace sealift::runtime;
  Stack s{stack_top};
  std::uint8_t random[16] = {};
  // A CPU without entropy leaves zeroes: only glibc's stack guard comes from here, no key does.
  [[maybe_unused]] const bool seeded = core::random_bytes(random, sizeof random);
  const std::uint64_t random_at = s.push_bytes(random, sizeof random);
  const std::uint64_t environment = s.push_bytes(kEnvironment, sizeof kEnvironment);
  const char zero = 0;
  s.push_bytes(&zero, 1);  // the last argument ends here even if the host's bytes did not
  const std::uint64_t args = s.push_bytes(argv, len);
  s.sp &= ~std::uint64_t{63};

  std::uint64_t starts[kMaxArgs];
  std::uint64_t argc = 0;
  for (std::uint64_t i = 0; i < len && argc < kMaxArgs; ++i) {
    const auto* text = reinterpret_cast<const char*>(args);
    if (i == 0 || text[i - 1] == '\0') starts[argc++] = args + i;
  }
  const auto& eh = *reinterpret_cast<const Elf64_Ehdr*>(__ehdr_start);
  constexpr std::uint64_t kAuxEntries = 10;
  if ((1 + argc + 1 + 1 + 1 + 2 * kAuxEntries) % 2 != 0) s.push(0);  // RSP must be 16-aligned at _start
  s.aux(AT_NULL, 0);
  s.aux(AT_MINSIGSTKSZ, 4096);
  s.aux(AT_SECURE, 0);
  s.aux(AT_RANDOM, random_at);
  s.aux(AT_CLKTCK, 100);
  s.aux(AT_ENTRY, core::base() + eh.e_entry);
  s.aux(AT_PAGESZ, sgx::kPageSize);
  s.aux(AT_PHNUM, eh.e_phnum);
  s.aux(AT_PHENT, eh.e_phentsize);
  s.aux(AT_PHDR, core::base() + eh.e_phoff);
  s.push(0);
  s.push(environment);
  s.push(0);
  for (std::uint64_t i = argc; i-- > 0;) s.push(starts[i]);
  s.push(argc);
  return s.sp;
}
