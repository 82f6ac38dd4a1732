// A guest's enclaves move with it: checkpointed into its memory, rebuilt in place on the other machine, granted by the
// agent that they left.
#include <unistd.h>

#include <algorithm>

#include "tests/guest/world.h"

namespace sealift::guest_test {
namespace {

using State = GuestEnclave::State;
using GuestMoves = World;

std::string said(const GuestResult& result) {
  return daemon::to_line(result.failure);
}

TEST_F(GuestMoves, ThereAndBackAgain) {
  start_guest(*a_);
  run_program(2);
  run_program(1);
  wait_guest(*a_, 3);
  Host* here = a_.get();
  Host* there = b_.get();
  for (std::uint64_t epoch = 2; epoch < 5; ++epoch) {
    const GuestResult prepared = prepare(*here, there->listen);
    ASSERT_TRUE(prepared.ok()) << said(prepared);
    EXPECT_TRUE(prepared.guest.all(State::kPrepared));
    const GuestResult held = checkpoint(*here);
    ASSERT_TRUE(held.ok()) << said(held);
    EXPECT_TRUE(held.guest.all(State::kCommitted));
    for (const GuestEnclave& each : held.guest.enclaves) EXPECT_GT(each.records, 0u);
    move_to(*there);
    wait_guest(*there, 3);
    const GuestResult resumed = resume(*there);
    ASSERT_TRUE(resumed.ok()) << said(resumed);
    double first = 1e300, last = 0;
    for (const GuestEnclave& each : resumed.guest.enclaves) {
      first = std::min(first, each.gate_closed_ms);
      last = std::max(last, each.committed_ms);
      EXPECT_EQ(each.epoch, epoch);
      EXPECT_GT(each.downtime_ms(), 0);
      EXPECT_LE(each.gate_closed_ms, each.held_ms);
      EXPECT_LE(each.held_ms, each.committed_ms);
      EXPECT_LE(each.rebuilt_ms, each.gate_opened_ms);
    }
    EXPECT_GT(resumed.guest.checkpoint_ms(), 0);
    EXPECT_LE(resumed.guest.checkpoint_ms(), last - first);
    expect_all_run(epoch);
    std::swap(here, there);
  }
}

TEST_F(GuestMoves, TheFirstEnclaveIsOpenedAfterPrepare) {
  start_guest(*a_);
  wait_guest(*a_, 0);
  ASSERT_TRUE(prepare(*a_, b_->listen).ok());
  run_program(1);
  wait_guest(*a_, 1);
  ASSERT_TRUE(checkpoint(*a_).ok());
  move_to(*b_);
  wait_guest(*b_, 1);
  const GuestResult resumed = resume(*b_);
  ASSERT_TRUE(resumed.ok()) << said(resumed);
  expect_all_run(2);
}

TEST_F(GuestMoves, WhatTheGuestNeedsIsKnownBeforehand) {
  start_guest(*a_);
  run_program(2);
  wait_guest(*a_, 2);
  const Guest guest = known(*a_);
  EXPECT_GT(guest.cpus, 0u);
  // This machine's, as the broker runs on it.
  EXPECT_GT(guest.untouched_bytes, 0u);
  EXPECT_LT(guest.untouched_bytes, static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) * 4096);
  EXPECT_EQ(guest.checkpoint_ms(), 0) << "there was none";
  EXPECT_EQ(guest.epc_bytes(), 2 * guest.enclaves[0].epc_bytes);
  EXPECT_GT(guest.enclaves[0].epc_bytes, guest.enclaves[0].pages * 4096);
  EXPECT_EQ(guest.enclaves[0].name, "guest");
  EXPECT_EQ(guest.enclaves[0].epoch, 1u);
  EXPECT_EQ(guest.enclaves[0].state, State::kRunning);
}

TEST_F(GuestMoves, AGuestWithoutEnclavesIsASuccess) {
  start_guest(*a_);
  wait_guest(*a_, 0);
  EXPECT_TRUE(prepare(*a_, b_->listen).ok());
  EXPECT_TRUE(checkpoint(*a_).ok());
  move_to(*b_);
  wait_guest(*b_, 0);
  EXPECT_TRUE(resume(*b_).ok());
}

TEST_F(GuestMoves, ManyEnclavesOfSeveralProcesses) {
  start_guest(*a_, "256M");
  for (int i = 0; i < 4; ++i) run_program(4);
  wait_guest(*a_, 16);
  ASSERT_TRUE(prepare(*a_, b_->listen).ok());
  ASSERT_TRUE(checkpoint(*a_).ok());
  move_to(*b_);
  wait_guest(*b_, 16);
  const GuestResult resumed = resume(*b_);
  ASSERT_TRUE(resumed.ok()) << said(resumed);
  expect_all_run(2);
}

// An enclave that was opened after prepare is prepared with the checkpoint.
TEST_F(GuestMoves, NewcomersComeAlong) {
  start_guest(*a_);
  run_program(1);
  wait_guest(*a_, 1);
  ASSERT_TRUE(prepare(*a_, b_->listen).ok());
  run_program(1);
  wait_guest(*a_, 2);
  const GuestResult held = checkpoint(*a_);
  ASSERT_TRUE(held.ok()) << said(held);
  EXPECT_TRUE(held.guest.all(State::kCommitted));
  move_to(*b_);
  wait_guest(*b_, 2);
  const GuestResult resumed = resume(*b_);
  ASSERT_TRUE(resumed.ok()) << said(resumed);
  expect_all_run(2);
}

// QEMU's migration failed afterwards: the same agent grants on the source, whether the EPC was lost meanwhile or not.
TEST_F(GuestMoves, TheyAreRebuiltOnTheSource) {
  start_guest(*a_);
  run_program(2);
  wait_guest(*a_, 2);
  ASSERT_TRUE(prepare(*a_, b_->listen).ok());
  ASSERT_TRUE(checkpoint(*a_).ok());
  const GuestResult resumed = resume(*a_);
  ASSERT_TRUE(resumed.ok()) << said(resumed);
  expect_all_run(2);
  ASSERT_TRUE(prepare(*a_, b_->listen).ok());
  ASSERT_TRUE(checkpoint(*a_).ok());
  lose_epc();
  const GuestResult again = resume(*a_);
  ASSERT_TRUE(again.ok()) << said(again);
  expect_all_run(3);
  // And after that it can still leave.
  ASSERT_TRUE(prepare(*a_, b_->listen).ok());
  ASSERT_TRUE(checkpoint(*a_).ok());
  move_to(*b_);
  wait_guest(*b_, 2);
  ASSERT_TRUE(resume(*b_).ok());
  expect_all_run(4);
}

TEST_F(GuestMoves, AbortBeforeTheCheckpointChangesNothing) {
  start_guest(*a_);
  run_program(2);
  wait_guest(*a_, 2);
  ASSERT_TRUE(prepare(*a_, b_->listen).ok());
  const GuestResult aborted = abort(*a_);
  ASSERT_TRUE(aborted.ok()) << said(aborted);
  EXPECT_TRUE(aborted.guest.all(State::kRunning));
  expect_all_run(1);
  EXPECT_TRUE(abort(*a_).ok()) << "nothing to abort is fine";
}

TEST_F(GuestMoves, AbortAfterTheCommitIsTooLate) {
  start_guest(*a_);
  run_program(1);
  wait_guest(*a_, 1);
  ASSERT_TRUE(prepare(*a_, "").ok());
  ASSERT_TRUE(checkpoint(*a_).ok());
  EXPECT_EQ(abort(*a_).failure.kind(), wire::Failure::BUSY);
  ASSERT_TRUE(resume(*a_).ok());
  expect_all_run(2);
  EXPECT_TRUE(resume(*a_).ok()) << "what runs is left alone";
  expect_all_run(2);
}

}  // namespace
}  // namespace sealift::guest_test
