// HeldRecords: a checkpoint in this process's own memory, where it travels with a VM.
//
// Threads: the enclave's worker's.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "host/link/control_port.h"
#include "host/link/mapped_bytes.h"
#include "migration/errc.h"

namespace sealift::host {

class HeldRecords {
 public:
  // Brings the enclave to rest. Nothing of an earlier checkpoint is kept. What fails here and in take(), the caller
  // cancels.
  [[nodiscard]] Errc come_to_rest(ControlPort& port, std::chrono::milliseconds budget);
  // Then: all its records, or none.
  [[nodiscard]] Errc take(ControlPort& port);
  // Gives them to the instance that was rebuilt; they stay, for another try.
  [[nodiscard]] Errc give(ControlPort& port) const;
  void drop() { records_.clear(); }

  [[nodiscard]] std::uint64_t bytes() const;
  // CLOCK_MONOTONIC, of the last checkpoint.
  [[nodiscard]] std::uint64_t gate_closed_ns() const noexcept { return gate_closed_ns_; }
  [[nodiscard]] std::uint64_t held_ns() const noexcept { return held_ns_; }

 private:
  [[nodiscard]] Errc dump(ControlPort& port);

  std::vector<MappedBytes> records_;  // groups of whole records, as kDump gave them
  std::uint64_t gate_closed_ns_ = 0, held_ns_ = 0;
};

// Whether these bytes begin with a final record.
[[nodiscard]] bool is_final(std::span<const std::byte> record);
[[nodiscard]] std::uint64_t monotonic_ns();

}  // namespace sealift::host
