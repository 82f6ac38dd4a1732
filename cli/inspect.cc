// sealift inspect: layout, measurement and policy of a signed enclave, from its file.
#include <cstring>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "host/image.h"
#include "host/sign.h"

namespace sealift::cli {
namespace {

template <std::size_t N>
std::string hex_of(const std::uint8_t (&bytes)[N]) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const std::uint8_t b : bytes) {
    out.push_back(kDigits[b >> 4]);
    out.push_back(kDigits[b & 15]);
  }
  return out;
}

nlohmann::json policy_json(const MigrationPolicy& p) {
  static constexpr const char* kTcb[] = {
      "UpToDate",  "SWHardeningNeeded",           "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded",
      "OutOfDate", "OutOfDateConfigurationNeeded"};
  nlohmann::json accepted = nlohmann::json::array();
  for (unsigned i = 0; i < std::size(kTcb); ++i) {
    if (((p.tcb_accepted >> i) & 1) != 0) accepted.push_back(kTcb[i]);
  }
  nlohmann::json agent;
  switch (static_cast<AgentPin>(p.agent_pin)) {
    case AgentPin::kMrenclave:
      agent = {{"mrenclave", hex_of(p.agent.bytes)}};
      break;
    case AgentPin::kMrsigner:
      agent = {
          {"mrsigner", hex_of(p.agent.bytes)}, {"isvprodid", p.agent_isvprodid}, {"min_isvsvn", p.agent_min_isvsvn}};
      break;
    case AgentPin::kNone:
      break;
  }
  return {{"allow", (p.flags & policy::kAllowMigration) != 0},
          {"development", (p.flags & policy::kDevelopment) != 0},
          {"tcb", accepted},
          {"agent", agent}};
}

nlohmann::json describe(const host::Image& image) {
  const EnclaveConfig& c = image.config();
  const sgx::Sigstruct& s = image.sigstruct();
  const sgx::Measurement measured = host::measure(image);
  const auto* name = reinterpret_cast<const char*>(c.name);
  return {{"name", std::string(name, strnlen(name, sizeof c.name))},
          {"mrenclave", hex_of(measured.bytes)},
          {"mrsigner", hex_of(host::mrsigner_of(s).bytes)},
          {"signature_covers_measurement", measured == s.enclavehash},
          {"isvprodid", s.isvprodid},
          {"isvsvn", s.isvsvn},
          {"debug", (s.attributes.flags & sgx::attribute::kDebug) != 0},
          {"xfrm", s.attributes.xfrm},
          {"elrange", c.elrange_size},
          {"pages", image.page_count()},
          {"image", c.image_size},
          {"heap", c.heap_size},
          {"stack", c.stack_size},
          {"slot", c.slot_bytes},
          {"threads", {{"tcs", c.tcs_count}, {"ecall", c.ecall_threads}}},
          {"cpuid_sites", c.cpuid_site_count},
          {"migration", policy_json(c.policy)}};
}

void print_tree(const nlohmann::json& value, const std::string& indent) {
  for (const auto& [key, element] : value.items()) {
    if (element.is_object()) {
      std::cout << indent << key << '\n';
      print_tree(element, indent + "  ");
    } else {
      std::cout << indent << key << std::string(key.size() < 12 ? 12 - key.size() : 1, ' ')
                << (element.is_string() ? element.get<std::string>() : element.dump()) << '\n';
    }
  }
}

}  // namespace

void add_inspect(CLI::App& app, Context& context) {
  const auto path = std::make_shared<std::string>();
  CLI::App* inspect = add_command(app, context, "inspect", "Show a signed enclave's layout, measurement and policy",
                                  "sealift inspect kv.enclave --json");
  inspect->add_option("enclave", *path, "Signed enclave image")->required();
  inspect->callback([path, &context] {
    context.chosen = [path, &context] {
      const nlohmann::json description = describe(host::Image::load(*path));
      if (context.json) {
        std::cout << description.dump(2) << '\n';
      } else {
        print_tree(description, "");
      }
      return 0;
    };
  });
}

}  // namespace sealift::cli
