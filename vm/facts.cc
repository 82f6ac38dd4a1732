#include "vm/facts.h"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace sealift::vm {

namespace {

using nlohmann::json;

// What QEMU answers is believed in form no more than in content: a missing or odd member reads as empty.
template <typename T>
T get(const json& from, const char* key, T otherwise) {
  if (!from.is_object()) return otherwise;
  const auto found = from.find(key);
  if (found == from.end()) return otherwise;
  if constexpr (std::is_same_v<T, std::string>) {
    return found->is_string() ? found->template get<T>() : otherwise;
  } else {
    return found->is_number_integer() ? found->template get<T>() : otherwise;
  }
}

std::string mib(std::uint64_t bytes) {
  char text[32];
  if (bytes % (1u << 20) == 0) {
    std::snprintf(text, sizeof(text), "%llu MiB", static_cast<unsigned long long>(bytes >> 20));
  } else {
    std::snprintf(text, sizeof(text), "%.1f MiB", static_cast<double>(bytes) / (1 << 20));
  }
  return text;
}

Problem refused(std::string what, std::string object, std::string advice) {
  return {Problem::Kind::kRefused, std::move(what), std::move(object), std::move(advice)};
}

std::string both(const std::string& here, const std::string& there) {
  return here + " here, " + there + " there";
}

std::string describe(const FeatureWord& word) {
  char text[64];
  std::snprintf(text, sizeof(text), "leaf %xH%s %s", word.leaf,
                word.subleaf < 0 ? "" : ("." + std::to_string(word.subleaf)).c_str(), word.reg.c_str());
  return text;
}

// The source's VM may use every feature that its CPU has; a CPU with more is another CPU to it as well.
std::optional<std::string> differing_feature(const Facts& source, const Facts& target) {
  for (const FeatureWord& word : source.features) {
    const auto same = std::find_if(target.features.begin(), target.features.end(), [&](const FeatureWord& other) {
      return other.leaf == word.leaf && other.subleaf == word.subleaf && other.reg == word.reg;
    });
    const std::uint32_t theirs = same == target.features.end() ? 0 : same->bits;
    if (theirs == word.bits) continue;
    char bits[64];
    std::snprintf(bits, sizeof(bits), ": %08x here, %08x there", word.bits, theirs);
    return describe(word) + bits;
  }
  return std::nullopt;
}

Facts first_part(const std::vector<QmpReply>& replies) {
  Facts facts;
  facts.run_state = get<std::string>(replies[0].value, "status", "");
  facts.migration = get<std::string>(replies[1].value, "status", "");
  // A QEMU that listens and has not been called yet tells no status.
  if (facts.migration.empty() && replies[1].value.contains("socket-address")) facts.migration = "listening";
  const json& cpus = replies[2].value;
  facts.cpus = cpus.is_array() ? static_cast<std::uint32_t>(cpus.size()) : 0;
  facts.ram_bytes = get<std::uint64_t>(replies[3].value, "base-memory", 0);
  facts.epc = epc_of(replies[4].value, replies[5].ok() ? replies[5].value : json());
  if (replies[6].value.is_string()) facts.machine = replies[6].value.get<std::string>();
  const json version = replies[7].value.is_object() ? replies[7].value.value("qemu", json()) : json();
  facts.version = std::to_string(get<int>(version, "major", 0)) + "." + std::to_string(get<int>(version, "minor", 0)) +
                  "." + std::to_string(get<int>(version, "micro", 0));
  return facts;
}

std::string cpu_path(const json& cpus) {
  return cpus.is_array() && !cpus.empty() ? get<std::string>(cpus[0], "qom-path", "") : std::string();
}

}  // namespace

std::uint64_t Facts::epc_bytes() const {
  std::uint64_t sum = 0;
  for (const EpcSection& section : epc) sum += section.size;
  return sum;
}

std::vector<EpcSection> epc_of(const json& memory_devices, const json& sgx) {
  std::vector<EpcSection> sections;
  for (const json& device : memory_devices.is_array() ? memory_devices : json::array()) {
    if (!device.is_object()) continue;
    const json data = device.value("data", json());
    const std::string backend = get<std::string>(data, "memdev", "");
    const std::string object = backend.substr(backend.rfind('/') == std::string::npos ? 0 : backend.rfind('/') + 1);
    if (object.rfind("epc", 0) != 0) continue;
    const auto address = get<std::uint64_t>(data, "addr", get<std::uint64_t>(data, "memaddr", 0));
    sections.push_back({object, address, get<std::uint64_t>(data, "size", 0)});
  }
  if (sgx.is_object() && sgx.value("sections", json()).is_array()) {
    for (const json& section : sgx["sections"]) {
      // query-sgx tells no address: QEMU lays sections out behind RAM by their order and size alone.
      sections.push_back(
          {"node" + std::to_string(get<std::int64_t>(section, "node", 0)), 0, get<std::uint64_t>(section, "size", 0)});
    }
  }
  return sections;
}

std::vector<FeatureWord> features_of(const json& words) {
  std::vector<FeatureWord> out;
  for (const json& word : words.is_array() ? words : json::array()) {
    out.push_back({get<std::uint32_t>(word, "cpuid-input-eax", 0), get<std::int64_t>(word, "cpuid-input-ecx", -1),
                   get<std::string>(word, "cpuid-register", ""), get<std::uint32_t>(word, "features", 0)});
  }
  return out;
}

void gather_facts(const std::shared_ptr<QmpClient>& client, FactsHandler done) {
  const auto lost = [](const std::vector<QmpReply>& replies) -> std::optional<Problem> {
    if (replies.back().error != QmpReply::Error::kLost) return std::nullopt;
    return Problem{Problem::Kind::kUnreachable, replies.back().text, "", ""};
  };
  client->batch({{"query-status"},
                 {"query-migrate"},
                 {"query-cpus-fast"},
                 {"query-memory-size-summary"},
                 {"query-memory-devices"},
                 {"query-sgx"},
                 {"qom-get", {{"path", "/machine"}, {"property", "type"}}},
                 {"query-version"}},
                [client, lost, done = std::move(done)](const std::vector<QmpReply>& replies) {
                  if (const auto problem = lost(replies)) return done({}, problem);
                  const Facts facts = first_part(replies);
                  const std::string path = cpu_path(replies[2].value);
                  if (path.empty()) return done({}, refused("this QEMU tells nothing of its CPUs", "", ""));
                  std::vector<QmpCommand> questions;
                  for (const char* name : {"type", "vendor", "family", "model", "stepping", "feature-words"}) {
                    questions.push_back({"qom-get", {{"path", path}, {"property", name}}});
                  }
                  client->batch(std::move(questions), [lost, facts, done](const std::vector<QmpReply>& answers) {
                    if (const auto problem = lost(answers)) return done({}, problem);
                    Facts all = facts;
                    if (answers[0].value.is_string()) all.cpu_type = answers[0].value.get<std::string>();
                    for (std::size_t i = 1; i <= 4; ++i) {
                      const json& value = answers[i].value;
                      all.cpu_vendor +=
                          (i == 1 ? "" : " ") + (value.is_string() ? value.get<std::string>() : value.dump());
                    }
                    all.features = features_of(answers[5].value);
                    done(all, std::nullopt);
                  });
                });
}

std::optional<Problem> cannot_leave(const Facts& source, const std::string& vm) {
  static const std::vector<std::string> kAtRest = {"", "none", "completed", "cancelled", "failed"};
  if (std::find(kAtRest.begin(), kAtRest.end(), source.migration) == kAtRest.end()) {
    return Problem{Problem::Kind::kBusy, "QEMU is migrating this VM already", vm, "wait for it, or migrate_cancel it"};
  }
  if (source.run_state != "running") {
    return refused("this VM does not run", vm + " (" + source.run_state + ")", "only running VMs move");
  }
  return std::nullopt;
}

std::optional<Problem> cannot_receive(const Facts& target, const std::string& vm) {
  if (target.run_state != "inmigrate") {
    return refused("the target's QEMU does not wait for a VM", vm + " (" + target.run_state + ")",
                   "start one there with -incoming defer");
  }
  if (!target.migration.empty() && target.migration != "none") {
    return Problem{Problem::Kind::kBusy, "another VM is already incoming in the target's QEMU", vm,
                   "give each VM a QEMU of its own with -incoming defer"};
  }
  return std::nullopt;
}

std::optional<Problem> unlike(const Facts& source, const Facts& target, std::uint64_t epc_need) {
  if (source.machine != target.machine) {
    return refused("machine types differ", both(source.machine, target.machine), "start both with the same -M");
  }
  if (source.cpu_type != target.cpu_type) {
    return refused("CPU models differ", both(source.cpu_type, target.cpu_type), "start both with the same -cpu");
  }
  if (source.cpu_vendor != target.cpu_vendor) {
    return refused("CPUs differ", both(source.cpu_vendor, target.cpu_vendor), "start both with the same -cpu");
  }
  if (const auto feature = differing_feature(source, target)) {
    return refused("CPU features differ", *feature, "start both with the same -cpu, named rather than host or max");
  }
  if (source.cpus != target.cpus) {
    return refused("numbers of CPUs differ", both(std::to_string(source.cpus), std::to_string(target.cpus)),
                   "start both with the same -smp");
  }
  if (source.ram_bytes != target.ram_bytes) {
    return refused("sizes of RAM differ", both(mib(source.ram_bytes), mib(target.ram_bytes)),
                   "start both with the same -m");
  }
  if (epc_need > target.epc_bytes()) {
    return refused("EPC on the target is too small",
                   "the VM's enclaves need " + mib(epc_need) + ", its section there has " + mib(target.epc_bytes()),
                   "give the QEMU there a larger section, and this one too");
  }
  if (source.epc.size() != target.epc.size()) {
    return refused("numbers of EPC sections differ",
                   both(std::to_string(source.epc.size()), std::to_string(target.epc.size())),
                   "start both QEMUs with the same devices");
  }
  for (std::size_t i = 0; i < source.epc.size(); ++i) {
    if (source.epc[i].size != target.epc[i].size || source.epc[i].address != target.epc[i].address) {
      return refused("EPC sections differ", both(mib(source.epc[i].size), mib(target.epc[i].size)),
                     "give both QEMUs sections of the same size at the same address");
    }
  }
  return std::nullopt;
}

}  // namespace sealift::vm
