// Between the wire's messages and what vm/ speaks of.
#pragma once

#include "daemon/wire.pb.h"
#include "vm/arrival.h"
#include "vm/driver.h"

namespace sealift::daemon {

[[nodiscard]] wire::Failure to_wire(const vm::Problem& problem);
[[nodiscard]] vm::Problem from_wire(const wire::Failure& failure);

[[nodiscard]] wire::VmFacts to_wire(const vm::Facts& facts);
[[nodiscard]] vm::Facts from_wire(const wire::VmFacts& facts);

[[nodiscard]] wire::VmOptions to_wire(const vm::MoveOptions& options);
[[nodiscard]] vm::MoveOptions from_wire(const wire::VmOptions& options);

[[nodiscard]] wire::VmEnclave to_wire(const vm::EnclaveReport& report);
[[nodiscard]] vm::EnclaveReport from_wire(const wire::VmEnclave& report);

[[nodiscard]] wire::VmMoveInfo to_wire(const vm::MoveView& view);
[[nodiscard]] wire::VmMoveInfo to_wire(const vm::Arrival& arrival);

}  // namespace sealift::daemon
