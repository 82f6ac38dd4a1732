// Glob patterns as KEYS and SCAN know them: * ? [a-z] [^…] and \ for the character itself.
#pragma once

#include <string_view>

namespace kv {

// At most |pattern| * |text| steps, whatever the pattern: clients choose it.
[[nodiscard]] bool glob_match(std::string_view pattern, std::string_view text);

}  // namespace kv
