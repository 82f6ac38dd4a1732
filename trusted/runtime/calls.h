// The ecall loop of one ecall thread.
#pragma once

namespace sealift::runtime {

// Never returns: idles outside until a call comes in, dispatches it, answers, idles again.
[[noreturn]] void serve_calls();

}  // namespace sealift::runtime
