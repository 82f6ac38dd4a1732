#include "softsgx/preload/options.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace softsgx::preload {
namespace {

TEST(StepWindowSyntax, ReadsAllThreeForms) {
  EXPECT_EQ(parse_step_window("all")->end, ~std::uint64_t{0});
  const auto absolute = parse_step_window("0x1000-2fff");
  ASSERT_TRUE(absolute);
  EXPECT_FALSE(absolute->relative);
  EXPECT_EQ(absolute->begin, 0x1000u);
  EXPECT_EQ(absolute->end, 0x2fffu);
  const auto relative = parse_step_window("+0x10-+0x20");
  ASSERT_TRUE(relative);
  EXPECT_TRUE(relative->relative);
  EXPECT_EQ(relative->begin, 0x10u);
}

TEST(StepWindowSyntax, MayNameATcs) {
  const auto window = parse_step_window("+0x10-+0x20@+0x3000");
  ASSERT_TRUE(window);
  EXPECT_EQ(window->end, 0x20u);
  EXPECT_EQ(window->tcs, std::uint64_t{0x3000});
  EXPECT_EQ(parse_step_window("all@+f000")->tcs, std::uint64_t{0xf000});
  EXPECT_FALSE(parse_step_window("all")->tcs);
}

TEST(StepWindowSyntax, RefusesTheRest) {
  for (const char* bad : {"", "-", "12", "12-", "-12", "+1-2", "1-+2", "2-1", "1-1", "x-y", "1-2-3", "1 -2", "all@",
                          "all@+", "all@3", "@+3", "all@+3@+4"}) {
    EXPECT_FALSE(parse_step_window(bad)) << bad;
  }
}

class Environment : public ::testing::Test {
 protected:
  void TearDown() override {
    for (const char* n : {"SOFTSGX_AEX_HZ", "SOFTSGX_SEED", "SOFTSGX_SINGLE_STEP"}) unsetenv(n);
  }
  std::string error;
};

TEST_F(Environment, EmptyMeansNothing) {
  const auto o = read_options(error);
  ASSERT_TRUE(o);
  EXPECT_EQ(o->aex_hz, 0u);
  EXPECT_FALSE(o->step.enabled);
}

TEST_F(Environment, BadRateIsNamed) {
  setenv("SOFTSGX_AEX_HZ", "often", 1);
  EXPECT_FALSE(read_options(error));
  EXPECT_NE(error.find("SOFTSGX_AEX_HZ=often"), std::string::npos);
}

TEST_F(Environment, BadSeedIsNamed) {
  setenv("SOFTSGX_SEED", "12x", 1);
  EXPECT_FALSE(read_options(error));
  EXPECT_NE(error.find("SOFTSGX_SEED=12x"), std::string::npos);
}

TEST_F(Environment, BadWindowIsNamed) {
  setenv("SOFTSGX_SINGLE_STEP", "sometimes", 1);
  EXPECT_FALSE(read_options(error));
  EXPECT_NE(error.find("SOFTSGX_SINGLE_STEP=sometimes"), std::string::npos);
}

}  // namespace
}  // namespace softsgx::preload
