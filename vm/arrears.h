// Arrears: what QEMU was kept from sending while it was held off, of a move with a bandwidth limit.
//
// QEMU shares its limit out by tenths of a second, and once held off lies idle for the rest of one or two of them,
// which pages of zeros make happen several times in a move. What it would have sent meanwhile it may send afterwards at
// twice the limit, so that the limit holds on the average, and holding off makes no move longer that has enough left to
// send.
// No more than half a second's worth: a guest that has QEMU held off for longer does not get more of the network.
//
// Pure; the clock is handed in, in seconds from any origin.
#pragma once

#include <cstdint>

#include "vm/convergence.h"

namespace sealift::vm {

class Arrears {
 public:
  static constexpr std::uint64_t kCatchUp = 2;  // times the limit

  // `limit`: bytes a second; 0: none, and nothing is ever owed.
  explicit Arrears(std::uint64_t limit = 0) : limit_(static_cast<double>(limit)) {}

  // In the order of time. `held`: QEMU was held off since the last call.
  void saw(double now, const Progress& progress, bool held);
  // So much that it is worth catching up.
  [[nodiscard]] bool any() const;

 private:
  double limit_;
  double rate_ = 0;  // bytes a second: what it had sent before it was held off for the first time
  double owed_ = 0;  // bytes
  bool begun_ = false;
  bool kept_ = false;  // held, or still idle since then
  double first_at_ = 0, last_at_ = 0;
  Progress first_, last_;
};

}  // namespace sealift::vm
