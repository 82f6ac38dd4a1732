// Result<T>: a value or an Errc, for code that must not throw across an enclave's boundary.
#pragma once

#include <utility>

#include "migration/errc.h"

namespace sealift {

// Holds a value exactly if error() == Errc::kOk. Not thread-safe; owns its value.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}         // NOLINT(google-explicit-constructor): reads as `return value`
  Result(Errc error) : error_(error), failed_(true) {}  // NOLINT(google-explicit-constructor)
  [[nodiscard]] bool ok() const noexcept { return !failed_; }
  explicit operator bool() const noexcept { return ok(); }
  [[nodiscard]] Errc error() const noexcept { return error_; }
  // Precondition of the four below: ok().
  [[nodiscard]] T& operator*() noexcept { return value_; }
  [[nodiscard]] const T& operator*() const noexcept { return value_; }
  [[nodiscard]] T* operator->() noexcept { return &value_; }
  [[nodiscard]] const T* operator->() const noexcept { return &value_; }

 private:
  T value_{};
  Errc error_ = Errc::kOk;
  bool failed_ = false;
};

}  // namespace sealift
