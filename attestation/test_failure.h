// For tests: what a verification failed with.
#pragma once

#include <gtest/gtest.h>

#include "attestation/verify.h"

namespace sealift::attestation::testing {

inline void expect_failure(const Result<Verdict, VerifyFailure>& result, VerifyError error, int cause = -1) {
  ASSERT_FALSE(result.ok()) << "accepted";
  EXPECT_EQ(result.error().error, error) << verify_error_name(result.error().error) << ' ' << result.error().cause;
  EXPECT_EQ(result.error().cause, cause) << verify_error_name(result.error().error);
}

template <class Cause>
void expect_failure(const Result<Verdict, VerifyFailure>& result, VerifyError error, Cause cause) {
  expect_failure(result, error, static_cast<int>(cause));
}

}  // namespace sealift::attestation::testing
