#include "vm/qmp_decoder.h"

namespace sealift::vm {

QmpStatus QmpDecoder::next(nlohmann::json& out) {
  for (;;) {
    if (broken_ != QmpStatus::kMessage) return broken_;
    const std::size_t end = buffer_.find('\n', scanned_);
    const std::size_t length = end == std::string::npos ? buffer_.size() : end;
    if (length > kMaxQmpLine) return broken_ = QmpStatus::kOversized;
    if (end == std::string::npos) {
      scanned_ = length;
      return QmpStatus::kNeedMore;
    }
    const std::string line = buffer_.substr(0, end);
    buffer_.erase(0, end + 1);
    scanned_ = 0;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    out = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!out.is_object()) return broken_ = QmpStatus::kMalformed;
    return QmpStatus::kMessage;
  }
}

}  // namespace sealift::vm
