// Turning a linked image into a signed enclave: layout, CPUID sites, measurement, SIGSTRUCT.
#pragma once

#include <string>

#include "host/image.h"
#include "host/manifest.h"

namespace sealift::host {

// MRENCLAVE, computed as ECREATE, EADD and EEXTEND would (SDM 3D), over the image's own pages.
[[nodiscard]] sgx::Measurement measure(const Image& image);

// SHA-256 of the modulus, as EINIT computes it.
[[nodiscard]] sgx::Measurement mrsigner_of(const sgx::Sigstruct& s);

// The MRSIGNER of enclaves that the key at `key_path` signs. Throws Error.
[[nodiscard]] sgx::Measurement mrsigner_of_key(const std::string& key_path);

// Lays out ELRANGE, writes the configuration, replaces `cpuid` by `ud2` at recorded sites (inside an enclave both are
// #UD; on a software machine only the second is), measures and signs with the RSA-3072 (e = 3) PEM key at `key_path`.
// Throws Error.
void sign(Image& image, const Manifest& manifest, const std::string& key_path);

// A new RSA-3072 key with exponent 3, written to `path` (mode 0600). Throws if the file exists.
void generate_key(const std::string& path);

}  // namespace sealift::host
