// Turns OpenSSL's ways of saying no into one exception with OpenSSL's own reason.
#pragma once

#include <openssl/err.h>

#include <stdexcept>
#include <string>

namespace softsgx::quoting {

[[noreturn]] inline void refuse() {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  std::string text = std::string("OpenSSL refused: ") + (reason ? reason : "no reason given");
  ERR_clear_error();
  throw std::runtime_error(text);
}

template <class T>
T* check(T* pointer) {
  if (!pointer) refuse();
  return pointer;
}

inline void check(int result) {
  if (result <= 0) refuse();
}

inline void check(bool good) {
  if (!good) refuse();
}

}  // namespace softsgx::quoting
