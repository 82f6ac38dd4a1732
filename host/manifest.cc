#include "host/manifest.h"

#include <toml++/toml.h>
#include <algorithm>
#include <cstring>
#include <fstream>
#include <initializer_list>
#include <span>
#include <sstream>

#include "host/baseline.h"
#include "migration/abi.h"

namespace sealift::host {
namespace {

// Reads one table and remembers where it is, so that every error names its key.
class Table {
 public:
  Table(const toml::table& table, std::string file, std::string path)
      : table_(table), file_(std::move(file)), path_(std::move(path)) {}

  [[noreturn]] void fail(const std::string& key, const std::string& why) const {
    throw Error(Errc::kPolicy, file_ + ": " + path_ + key + ": " + why);
  }

  void allow(std::initializer_list<const char*> keys) const {
    for (const auto& [key, value] : table_) {
      const std::string name(key.str());
      if (std::none_of(keys.begin(), keys.end(), [&](const char* k) { return name == k; })) {
        fail(name, "unknown key");
      }
    }
  }

  [[nodiscard]] Table sub(const char* key) const {
    static const toml::table kEmpty;
    const toml::node* node = table_.get(key);
    if (node == nullptr) return {kEmpty, file_, path_ + key + "."};
    if (!node->is_table()) fail(key, "must be a table");
    return {*node->as_table(), file_, path_ + key + "."};
  }

  [[nodiscard]] bool has(const char* key) const { return table_.contains(key); }

  template <typename T>
  [[nodiscard]] T get(const char* key, T fallback) const {
    const toml::node* node = table_.get(key);
    if (node == nullptr) return fallback;
    const auto value = node->value_exact<T>();
    if (!value) fail(key, "has the wrong type");
    return *value;
  }

  [[nodiscard]] std::uint64_t number(const char* key, std::uint64_t fallback, std::uint64_t low,
                                     std::uint64_t high) const {
    const auto v = get<std::int64_t>(key, static_cast<std::int64_t>(fallback));
    if (v < static_cast<std::int64_t>(low) || v > static_cast<std::int64_t>(high)) {
      fail(key, "must be between " + std::to_string(low) + " and " + std::to_string(high));
    }
    return static_cast<std::uint64_t>(v);
  }

  // "64M" and the like, in whole pages.
  [[nodiscard]] std::uint64_t size(const char* key, const char* fallback, std::uint64_t low, std::uint64_t high) const {
    const std::string text = get<std::string>(key, fallback);
    std::size_t used = 0;
    std::uint64_t v = 0;
    try {
      v = std::stoull(text, &used);
    } catch (const std::exception&) {
      fail(key, "must be a size like \"64M\"");
    }
    const std::string unit = text.substr(used);
    const unsigned shift = unit == "K" ? 10 : unit == "M" ? 20 : unit == "G" ? 30 : unit.empty() ? 0 : 99;
    if (shift == 99 || v > (high >> shift)) fail(key, "must be a size like \"64M\", at most " + std::to_string(high));
    v <<= shift;
    if (v % sgx::kPageSize != 0 || v < low) fail(key, "must be whole pages of 4K, at least " + std::to_string(low));
    return v;
  }

  [[nodiscard]] std::vector<std::string> strings(const char* key) const {
    std::vector<std::string> all;
    const toml::node* node = table_.get(key);
    if (node == nullptr) return all;
    if (!node->is_array()) fail(key, "must be an array of strings");
    for (const toml::node& element : *node->as_array()) {
      const auto text = element.value_exact<std::string>();
      if (!text) fail(key, "must be an array of strings");
      all.push_back(*text);
    }
    return all;
  }

  void hex(const char* key, std::span<std::uint8_t> to) const {
    const std::string text = get<std::string>(key, "");
    if (text.size() != to.size() * 2 || text.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
      fail(key, "must be " + std::to_string(to.size() * 2) + " hexadecimal digits");
    }
    for (std::size_t i = 0; i < to.size(); ++i) {
      to[i] = static_cast<std::uint8_t>(std::stoul(text.substr(2 * i, 2), nullptr, 16));
    }
  }

 private:
  const toml::table& table_;
  std::string file_, path_;
};

std::uint32_t tcb_bit(const Table& t, const std::string& status) {
  if (status == "UpToDate") return tcb::kUpToDate;
  if (status == "SWHardeningNeeded") return tcb::kSwHardeningNeeded;
  if (status == "ConfigurationNeeded") return tcb::kConfigurationNeeded;
  if (status == "ConfigurationAndSWHardeningNeeded") return tcb::kConfigurationAndSwHardeningNeeded;
  if (status == "OutOfDate") return tcb::kOutOfDate;
  if (status == "OutOfDateConfigurationNeeded") return tcb::kOutOfDateConfigurationNeeded;
  t.fail("tcb", "unknown TCB status '" + status + "'");
}

void read_agent(const Table& migration, MigrationPolicy& p) {
  if (!migration.has("agent")) return;
  const Table agent = migration.sub("agent");
  agent.allow({"mrenclave", "mrsigner", "isvprodid", "min_isvsvn"});
  if (agent.has("mrenclave") == agent.has("mrsigner")) agent.fail("", "name mrenclave or mrsigner, one of them");
  const bool by_enclave = agent.has("mrenclave");
  p.agent_pin = static_cast<std::uint32_t>(by_enclave ? AgentPin::kMrenclave : AgentPin::kMrsigner);
  agent.hex(by_enclave ? "mrenclave" : "mrsigner", p.agent.bytes);
  if (by_enclave) return;
  if (!agent.has("isvprodid"))
    agent.fail("isvprodid", "must be given with mrsigner: it tells agents from other products");
  p.agent_isvprodid = static_cast<std::uint16_t>(agent.number("isvprodid", 0, 0, 0xffff));
  p.agent_min_isvsvn = static_cast<std::uint16_t>(agent.number("min_isvsvn", 0, 0, 0xffff));
}

void read_migration(const Table& root, EnclaveConfig& c) {
  const Table m = root.sub("migration");
  m.allow({"allow", "development", "agent", "tcb"});
  MigrationPolicy& p = c.policy;
  if (m.get("allow", false)) p.flags |= policy::kAllowMigration;
  if (m.get("development", false)) p.flags |= policy::kDevelopment;
  for (const std::string& s : m.strings("tcb")) p.tcb_accepted |= tcb_bit(m, s);
  if (p.tcb_accepted == 0) p.tcb_accepted = tcb::kUpToDate;
  read_agent(m, p);
  if ((p.flags & policy::kAllowMigration) != 0 && p.agent_pin == static_cast<std::uint32_t>(AgentPin::kNone)) {
    m.fail("agent", "migration is allowed, so the agent's identity must be pinned");
  }
}

void read_cpu(const Table& root, Manifest& out) {
  const Table cpu = root.sub("cpu");
  cpu.allow({"baseline", "features"});
  Baseline b;
  try {
    b = make_baseline(cpu.get<std::string>("baseline", "x86-64-v3"), cpu.strings("features"));
  } catch (const std::invalid_argument& e) {
    cpu.fail("", e.what());
  }
  EnclaveConfig& c = out.config;
  c.xfrm = b.xfrm;
  c.cpuid_count = static_cast<std::uint32_t>(b.cpuid.size());
  std::copy(b.cpuid.begin(), b.cpuid.end(), c.cpuid);
}

void read_memory(const Table& root, EnclaveConfig& c) {
  const Table memory = root.sub("memory");
  memory.allow({"heap", "stack", "slot"});
  c.heap_size = memory.size("heap", "16M", 1u << 20, std::uint64_t{4} << 30);
  c.stack_size = memory.size("stack", "256K", 64u << 10, 64u << 20);
  c.slot_bytes = memory.size("slot", "64K", 4096, 16u << 20);
  c.main_stack_limit = c.stack_size;
  const Table threads = root.sub("threads");
  threads.allow({"ecall", "pool"});
  c.ecall_threads = static_cast<std::uint32_t>(threads.number("ecall", 4, 0, abi::kMaxTcs - abi::kFirstEcallTcs));
  const auto pool = static_cast<std::uint32_t>(threads.number("pool", 0, 0, abi::kMaxTcs - abi::kFirstEcallTcs));
  c.tcs_count = abi::kFirstEcallTcs + c.ecall_threads + pool;
  if (c.tcs_count > abi::kMaxTcs) threads.fail("pool", "ecall and pool are at most 78 together");
}

Manifest read_root(const toml::table& document, const std::string& name) {
  const Table root(document, name, "");
  root.allow({"name", "isvprodid", "isvsvn", "debug", "memory", "threads", "cpu", "migration", "owner"});
  Manifest out;
  EnclaveConfig& c = out.config;
  c.magic = kConfigMagic;
  c.version = kConfigVersion;
  c.ssa_frame_pages = 1;
  const std::string title = root.get<std::string>("name", "");
  if (title.empty() || title.size() >= sizeof c.name) root.fail("name", "must be given, and shorter than 64 bytes");
  std::memcpy(c.name, title.data(), title.size());
  out.isvprodid = static_cast<std::uint16_t>(root.number("isvprodid", 0, 0, 0xffff));
  out.isvsvn = static_cast<std::uint16_t>(root.number("isvsvn", 0, 0, 0xffff));
  read_memory(root, c);
  read_cpu(root, out);
  read_migration(root, c);
  if (root.has("owner")) {
    const Table owner = root.sub("owner");
    owner.allow({"key"});
    owner.hex("key", c.owner_key);
  }
  out.attributes = {sgx::attribute::kMode64Bit, c.xfrm};
  if (root.get("debug", false)) out.attributes.flags |= sgx::attribute::kDebug;
  // Without EXINFO, #PF and #GP would not be reported inside: a crash could not be told from an interrupt.
  out.miscselect = sgx::miscselect::kExinfo;
  out.attribute_mask = {~std::uint64_t{0}, ~std::uint64_t{0}};
  return out;
}

}  // namespace

Manifest parse_manifest(const std::string& text, const std::string& name) {
  try {
    return read_root(toml::parse(text, name), name);
  } catch (const toml::parse_error& e) {
    std::ostringstream where;
    where << name << ":" << e.source().begin.line << ": " << e.description();
    throw Error(Errc::kPolicy, where.str());
  }
}

Manifest load_manifest(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw Error(Errc::kPolicy, path + ": cannot read the manifest: check the path");
  std::ostringstream text;
  text << file.rdbuf();
  return parse_manifest(text.str(), path);
}

}  // namespace sealift::host
