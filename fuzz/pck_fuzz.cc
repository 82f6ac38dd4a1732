// The SGX extension of a PCK certificate.
#include "attestation/pck.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sealift::attestation;
  static_cast<void>(parse_pck_extension(ByteSpan(data, size)).ok());
  return 0;
}
