// Checkpoint and restore between two machines, every untrusted party played by the test.
#include <gtest/gtest.h>

#include "tests/enclaves/counter_calls.h"
#include "tests/lab/lab.h"

namespace sealift::lab {
namespace {

TEST(Migration, StateArrivesAndTheSourceIsDestroyed) {
  LabMachine a, b;
  Peer source(a), target(b);
  ASSERT_EQ(source.build("counter"), Errc::kOk) << source.error;
  ASSERT_EQ(source.start(), Errc::kOk) << source.error;
  ASSERT_TRUE(source.call(counter::kPut, "key", "value").ok());
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(source.call(counter::kStep).ok());
  Migration m(a, source, b);
  ASSERT_EQ(m.run(target, "counter"), Errc::kOk) << target.error;
  const auto value = target.call(counter::kGet, "key");
  ASSERT_TRUE(value.ok()) << errc_name(value.error());
  EXPECT_EQ(*value, "value");
  const auto state = target.call(counter::kState);
  ASSERT_TRUE(state.ok());
  EXPECT_EQ(state->value, 5u);
  EXPECT_TRUE(state->consistent);
  EXPECT_EQ(*target.call(counter::kIdentity), 2u);
  EXPECT_EQ(source.call(counter::kState).error(), Errc::kDestroyed);
  EXPECT_EQ(source.status().gate, static_cast<std::uint32_t>(abi::GateState::kDestroyed));
}

TEST(Migration, RunningThreadsContinueOnTheTarget) {
  LabMachine a, b;
  Peer source(a), target(b);
  ASSERT_EQ(source.build("counter"), Errc::kOk) << source.error;
  ASSERT_EQ(source.start(), Errc::kOk) << source.error;
  ASSERT_TRUE(source.call(counter::kStartWorkers, 8u).ok());
  Migration m(a, source, b);
  ASSERT_EQ(m.run(target, "counter"), Errc::kOk) << target.error;
  const auto before = target.call(counter::kState);
  ASSERT_TRUE(before.ok()) << errc_name(before.error());
  EXPECT_TRUE(before->consistent);
  // The workers go on: this call ends only if they do.
  const auto later = target.call(counter::kSpin, before->value + 1000);
  ASSERT_TRUE(later.ok());
  ASSERT_TRUE(target.call(counter::kStopWorkers).ok());
  EXPECT_TRUE(target.call(counter::kState)->consistent);
}

// Acceptance 3: many threads over shared state, moved back and forth while AEXs rain.
TEST(Migration, ThirtyTwoThreadsMoveManyTimesUnderInterrupts) {
  const char* wanted = std::getenv("SEALIFT_STRESS_MIGRATIONS");
  const int rounds = wanted != nullptr ? std::atoi(wanted) : 10;
  LabMachine machines[2];
  const std::vector<std::string> interrupts = {"--aex-hz", "2000"};
  auto here = std::make_unique<Peer>(machines[0], interrupts);
  ASSERT_EQ(here->build("counter"), Errc::kOk) << here->error;
  ASSERT_EQ(here->start(), Errc::kOk) << here->error;
  ASSERT_TRUE(here->call(counter::kStartWorkers, 32u).ok());
  std::uint64_t last = 0;
  for (int i = 0; i < rounds; ++i) {
    auto there = std::make_unique<Peer>(machines[(i + 1) % 2], interrupts);
    Migration m(machines[i % 2], *here, machines[(i + 1) % 2]);
    ASSERT_EQ(m.run(*there, "counter"), Errc::kOk)
        << "migration " << i << ": source: " << here->error << " target: " << there->error;
    const auto state = there->call(counter::kState);
    ASSERT_TRUE(state.ok()) << "migration " << i << ": " << errc_name(state.error());
    EXPECT_TRUE(state->consistent) << "migration " << i;
    EXPECT_GE(state->value, last);
    last = state->value;
    ASSERT_TRUE(there->call(counter::kSpin, last + 50).ok()) << "migration " << i;
    here = std::move(there);
  }
  ASSERT_TRUE(here->call(counter::kStopWorkers).ok());
  EXPECT_TRUE(here->call(counter::kState)->consistent);
}

}  // namespace
}  // namespace sealift::lab
