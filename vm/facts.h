// Facts: what a QEMU is, as far as a VM can only move between two that are alike; and the judgement of two of them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vm/problem.h"
#include "vm/qmp_client.h"

namespace sealift::vm {

// A piece of the host's EPC, as the guest sees it.
struct EpcSection {
  std::string id;
  std::uint64_t address = 0;
  std::uint64_t size = 0;
  friend bool operator==(const EpcSection&, const EpcSection&) = default;
};

// One register of one CPUID leaf, as the guest sees it (QEMU's X86CPUFeatureWordInfo).
struct FeatureWord {
  std::uint32_t leaf = 0;
  std::int64_t subleaf = -1;  // -1: the leaf has none
  std::string reg;
  std::uint32_t bits = 0;
  friend bool operator==(const FeatureWord&, const FeatureWord&) = default;
};

struct Facts {
  std::string run_state;   // query-status
  std::string migration;   // query-migrate; empty: none since its start
  std::string version;     // "7.2.22"
  std::string machine;     // "pc-q35-7.2-machine"
  std::string cpu_type;    // "max-x86_64-cpu"
  std::string cpu_vendor;  // and family, model, stepping
  std::vector<FeatureWord> features;
  std::uint32_t cpus = 0;
  std::uint64_t ram_bytes = 0;
  std::vector<EpcSection> epc;

  [[nodiscard]] std::uint64_t epc_bytes() const;
};

// `facts` is only of use if there is no problem.
using FactsHandler = std::function<void(const Facts& facts, const std::optional<Problem>&)>;
void gather_facts(const std::shared_ptr<QmpClient>& client, FactsHandler done);

// EPC sections in the answers of query-memory-devices (a device over a file whose object is called epc…: softsgx) and
// of query-sgx (-object memory-backend-epc: silicon).
[[nodiscard]] std::vector<EpcSection> epc_of(const nlohmann::json& memory_devices, const nlohmann::json& sgx);
[[nodiscard]] std::vector<FeatureWord> features_of(const nlohmann::json& words);

// Whether a VM in this state can leave, or come in.
[[nodiscard]] std::optional<Problem> cannot_leave(const Facts& source, const std::string& vm);
[[nodiscard]] std::optional<Problem> cannot_receive(const Facts& target, const std::string& vm);
// Whether the VM on `source`, whose enclaves need `epc_need` bytes, can go on in `target`.
[[nodiscard]] std::optional<Problem> unlike(const Facts& source, const Facts& target, std::uint64_t epc_need);

}  // namespace sealift::vm
