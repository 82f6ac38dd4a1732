// What the quote decoder accepts, the encoder must give back byte for byte.
#include "attestation/quote.h"

#include <algorithm>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sealift::attestation;
  const ByteSpan bytes(data, size);
  const auto whole = quote_size(bytes);
  const auto quote = parse_quote(bytes);
  if (!quote) return 0;
  const Bytes again = serialize_quote(quote.value());
  if (whole != size || !std::ranges::equal(again, bytes)) std::abort();
  return 0;
}
