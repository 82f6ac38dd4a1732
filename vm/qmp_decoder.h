// Framing of QMP: one JSON object a line (QEMU's docs/interop/qmp-spec). No I/O here.
//
// QEMU is no friend (a guest may have broken out into it): lines are bounded, and what is no JSON object ends the
// stream.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace sealift::vm {

// query-qmp-schema, the longest answer that QEMU gives, has some 200 KiB.
inline constexpr std::size_t kMaxQmpLine = 2u << 20;

enum class QmpStatus {
  kMessage,
  kNeedMore,
  // Final:
  kOversized,
  kMalformed,
};

// Not thread-safe; owns its buffer.
class QmpDecoder {
 public:
  void append(std::string_view bytes) { buffer_.append(bytes); }
  // Takes the next message out. After a final status it answers the same for ever.
  [[nodiscard]] QmpStatus next(nlohmann::json& out);

 private:
  std::string buffer_;
  std::size_t scanned_ = 0;  // no line ends before
  QmpStatus broken_ = QmpStatus::kMessage;
};

}  // namespace sealift::vm
