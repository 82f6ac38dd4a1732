#include "migration/progress.h"

#include <gtest/gtest.h>

namespace sealift {
namespace {

TEST(Progress, SaysUnknownBeforeAnythingHappened) {
  Progress progress;
  progress.begin(10.0, 1000);
  const ProgressView view = progress.at(10.0);
  EXPECT_EQ(view.bytes, 0u);
  EXPECT_EQ(view.total_bytes, 1000u);
  EXPECT_LT(view.seconds_left, 0);
}

TEST(Progress, RateAndTimeLeftFollowTheBytes) {
  Progress progress;
  progress.begin(0.0, 1000);
  progress.add(1.0, 250);
  const ProgressView view = progress.at(1.0);
  EXPECT_EQ(view.records, 1u);
  EXPECT_DOUBLE_EQ(view.bytes_per_second, 250.0);
  EXPECT_DOUBLE_EQ(view.seconds_left, 3.0);
}

TEST(Progress, ForgetsWhatIsOlderThanTheWindow) {
  Progress progress;
  progress.begin(0.0, 100000);
  progress.add(1.0, 10000);
  for (int second = 2; second <= 20; ++second) progress.add(second, 100);
  EXPECT_NEAR(progress.at(20.0).bytes_per_second, 100.0, 1.0);
}

TEST(Progress, StallsAreSeenWithoutNewRecords) {
  Progress progress;
  progress.begin(0.0, 1000);
  progress.add(1.0, 500);
  EXPECT_LT(progress.at(10.0).bytes_per_second, 51.0);
}

TEST(Progress, ATooLowEstimateGrows) {
  Progress progress;
  progress.begin(0.0, 100);
  progress.add(1.0, 300);
  EXPECT_EQ(progress.at(1.0).total_bytes, 300u);
  EXPECT_DOUBLE_EQ(progress.at(1.0).seconds_left, 0.0);
}

TEST(Progress, TheRealSizeReplacesTheEstimate) {
  Progress progress;
  progress.begin(0.0, 5000);
  progress.add(1.0, 100);
  progress.set_total(100);
  EXPECT_EQ(progress.at(2.0).total_bytes, 100u);
  EXPECT_DOUBLE_EQ(progress.at(2.0).seconds_left, 0.0);
}

TEST(Progress, BeginStartsOver) {
  Progress progress;
  progress.begin(0.0, 100);
  progress.add(1.0, 100);
  progress.begin(5.0, 700);
  EXPECT_EQ(progress.at(5.0).records, 0u);
  EXPECT_EQ(progress.at(5.0).bytes, 0u);
  EXPECT_EQ(progress.at(5.0).total_bytes, 700u);
}

}  // namespace
}  // namespace sealift
