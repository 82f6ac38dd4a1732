// Framing of the wire protocol: 4 bytes little-endian length, then one wire::Envelope of that many bytes. Works on any
// byte stream; no I/O here. The bytes may come from anybody: every field is bounded before it is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "daemon/wire.pb.h"

namespace sealift::daemon {

// A full control slot (4 MiB) or a program's whole environment, and some room. A peer can make us hold one such frame.
inline constexpr std::size_t kMaxFrame = (4u << 20) + (64u << 10);
inline constexpr std::size_t kFramePrefix = 4;

inline constexpr std::uint32_t kProtocolMin = 1;
inline constexpr std::uint32_t kProtocolMax = 1;

enum class FrameStatus {
  kFrame,     // `out` is the next envelope
  kNeedMore,  // nothing complete yet
  // Final: the stream cannot be followed any further.
  kEmpty,      // a length of zero
  kOversized,  // a length above kMaxFrame
  kMalformed,  // the bytes are no Envelope
};
[[nodiscard]] const char* describe(FrameStatus status) noexcept;

// Incremental decoder. Not thread-safe; owns its buffer, which never grows past one maximal frame and a read's worth.
class FrameDecoder {
 public:
  // Where to put the next bytes from the stream; never empty. Invalidated by the other calls.
  [[nodiscard]] std::span<std::byte> space();
  // `count` bytes were put into space().
  void filled(std::size_t count);
  // Takes the next envelope out. After a final status it answers the same for ever.
  [[nodiscard]] FrameStatus next(wire::Envelope& out);

 private:
  [[nodiscard]] std::optional<std::size_t> pending_length() const;

  std::vector<std::byte> buffer_;
  std::size_t begin_ = 0;  // of the bytes not yet decoded
  std::size_t end_ = 0;
  FrameStatus broken_ = FrameStatus::kFrame;  // or the final status
};

// Prefix and envelope, ready to be sent. Nothing if it would be larger than kMaxFrame.
[[nodiscard]] std::optional<std::string> encode(const wire::Envelope& envelope);

// The version that both ranges contain and is highest, if there is one.
[[nodiscard]] std::optional<std::uint32_t> negotiate(const wire::Hello& mine, const wire::Hello& theirs);

}  // namespace sealift::daemon
