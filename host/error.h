// Errors of the host runtime: one line for a person, and the closed number for a program.
#pragma once

#include <stdexcept>
#include <string>

#include "migration/errc.h"

namespace sealift::host {

class Error : public std::runtime_error {
 public:
  Error(Errc code, const std::string& what) : std::runtime_error(what), code_(code) {}
  [[nodiscard]] Errc code() const noexcept { return code_; }

 private:
  Errc code_;
};

}  // namespace sealift::host
