// Stage 1 of the comparison enclave: as core's, but a thread that core parks is sent to spin inside the enclave, as in
// the paper (Gu et al., DSN 2017, section on the quiescent point). Only bench/ builds this; no product target does.
#define sealift_stage1 sealift_stage1_parking
#include "trusted/core/stage1.cc"
#undef sealift_stage1

extern "C" {
extern const std::uint8_t sealift_spin[];
void sealift_stage1(sealift::core::ThreadBlock& tb, std::uint64_t request);
}

void sealift_stage1(sealift::core::ThreadBlock& tb, std::uint64_t request) {
  using namespace sealift;
  using namespace sealift::core;
  sealift_stage1_parking(tb, request);
  if (state_of(tb) != ThreadState::kParked) return;
  // Parked just now, or kicked again while it spins: the gate is closed, and its state is in the stash.
  frame_of(tb).gpr.rip = address(sealift_spin);
  answer(tb, abi::Exit::kResume);
}
