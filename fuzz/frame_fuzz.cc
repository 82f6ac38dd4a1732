// The frame decoder of sealiftd's protocol (daemon/frame.h), fed in pieces whose sizes the input chooses.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "daemon/frame.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sealift::daemon;
  if (size == 0) return 0;
  const std::size_t piece = 1 + data[0];
  FrameDecoder decoder;
  sealift::wire::Envelope message;
  std::size_t frames = 0;
  for (std::size_t at = 1; at < size;) {
    const auto space = decoder.space();
    const std::size_t count = std::min({piece, size - at, space.size()});
    std::memcpy(space.data(), data + at, count);
    decoder.filled(count);
    at += count;
    while (decoder.next(message) == FrameStatus::kFrame) {
      ++frames;
      // What was decoded can be sent on, unless it says nothing at all.
      if (message.ByteSizeLong() != 0 && !encode(message).has_value()) std::abort();
    }
  }
  if (frames * (kFramePrefix + 1) > size) std::abort();
  return 0;
}
