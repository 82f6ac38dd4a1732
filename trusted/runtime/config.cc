// Space for what `sealift sign` fills in. The configuration is loaded and measured; the SIGSTRUCT is not loaded.
#include "migration/config.h"

#include "sgx/arch.h"

extern "C" {
[[gnu::section(".sealift_config"), gnu::visibility("hidden")]] extern const sealift::EnclaveConfig sealift_config;
const sealift::EnclaveConfig sealift_config{};
}

static_assert(sizeof(sgx::Sigstruct) == 1808);
asm(".pushsection .sealift_sigstruct,\"\",@progbits\n .balign 8\n .zero 1808\n .popsection\n");
