// Failures as people meet them: one line that says what failed, of what, and what to do.
#pragma once

#include <string>

#include "daemon/wire.pb.h"
#include "migration/errc.h"

namespace sealift::daemon {

[[nodiscard]] inline wire::Failure make_failure(wire::Failure::Kind kind, std::string what, std::string object,
                                                std::string advice, Errc errc = Errc::kOk) {
  wire::Failure failure;
  failure.set_kind(kind);
  failure.set_what(std::move(what));
  failure.set_object(std::move(object));
  failure.set_advice(std::move(advice));
  failure.set_errc(static_cast<std::uint32_t>(errc));
  return failure;
}

// "what: object (cause): advice", without the parts that are empty.
[[nodiscard]] inline std::string to_line(const wire::Failure& failure) {
  std::string line = failure.what();
  if (!failure.object().empty()) line += ": " + failure.object();
  if (failure.errc() != 0) line += std::string(" (") + errc_name(static_cast<Errc>(failure.errc())) + ")";
  if (!failure.advice().empty()) line += ": " + failure.advice();
  return line;
}

}  // namespace sealift::daemon
