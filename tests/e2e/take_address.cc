// Preloaded into a program: takes the page at $TAKEN_ADDRESS before anything else wants it.
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>

namespace {

[[gnu::constructor]] void take() {
  const char* address = std::getenv("TAKEN_ADDRESS");
  if (address == nullptr) return;
  constexpr std::size_t kPage = 4096;
  void* at = reinterpret_cast<void*>(static_cast<std::uintptr_t>(std::strtoull(address, nullptr, 10)));
  if (mmap(at, kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != at) std::abort();
}

}  // namespace
