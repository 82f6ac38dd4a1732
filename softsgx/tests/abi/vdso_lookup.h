// Finds a vDSO function as runtimes do: AT_SYSINFO_EHDR, then the image's own symbol table.
#pragma once

namespace third_party {

// Null if there is no such function. By DT_HASH.
[[nodiscard]] void* vdso_function(const char* name);

}  // namespace third_party
