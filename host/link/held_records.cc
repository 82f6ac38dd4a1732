#include "host/link/held_records.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "migration/record.h"

namespace sealift::host {

bool is_final(std::span<const std::byte> record) {
  record::RecordHeader header{};
  if (record.size() < sizeof(header)) return false;
  std::memcpy(&header, record.data(), sizeof(header));
  return header.kind == static_cast<std::uint16_t>(record::Kind::kFinal);
}

// steady_clock is CLOCK_MONOTONIC, the same in every process of a guest.
std::uint64_t monotonic_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

Errc HeldRecords::come_to_rest(ControlPort& port, std::chrono::milliseconds budget) {
  drop();
  const auto deadline = std::chrono::steady_clock::now() + budget;
  gate_closed_ns_ = monotonic_ns();
  if (const Errc e = port.quiesce(budget); e != Errc::kOk) return e;
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  return port.settle(std::max(left, std::chrono::milliseconds(1)));
}

Errc HeldRecords::take(ControlPort& port) {
  Errc error = Errc::kOk;
  try {
    error = dump(port);
  } catch (const std::bad_alloc&) {
    error = Errc::kTooLarge;  // the guest's memory does not hold it: the enclave goes on
  }
  if (error != Errc::kOk) drop();
  // Its bytes lie here now. A second copy of them in memory that the VM's move sends as well would be paid for twice;
  // given back, the next enclave's records take its place.
  port.trim();
  held_ns_ = monotonic_ns();
  return error;
}

Errc HeldRecords::dump(ControlPort& port) {
  for (;;) {
    const Errc e = port.dump([this](std::span<const std::byte> group) { records_.emplace_back(group); });
    if (e != Errc::kOk) return e;
    if (is_final(records_.back().get())) return Errc::kOk;
  }
}

Errc HeldRecords::give(ControlPort& port) const {
  if (records_.empty()) return Errc::kNotReady;
  for (const auto& group : records_) {
    std::vector<std::byte> none;
    if (const Errc e = port.control(abi::ControlOp::kRecord, group.get(), none); e != Errc::kOk) return e;
  }
  port.trim();
  return Errc::kOk;
}

std::uint64_t HeldRecords::bytes() const {
  std::uint64_t sum = 0;
  for (const auto& group : records_) sum += group.size();
  return sum;
}

}  // namespace sealift::host
