// Enclave::open: a new enclave, or the one that this process was started to take over.
#include "sealift/enclave.h"

#include <cstdlib>
#include <cstring>

#include "host/baseline.h"
#include "host/error.h"
#include "host/instance.h"
#include "host/link/daemon_link.h"

namespace sealift {
namespace {

using host::DaemonLink;
using host::Instance;

// One link a process, made at the first use and kept: enclaves come and go.
DaemonLink& daemon_link() {
  static DaemonLink link;
  return link;
}

// The token of the adoption that this process was started for. Only the first enclave takes it.
std::string take_adopt_token() {
  const char* token = std::getenv("SEALIFT_ADOPT");
  if (token == nullptr) return {};
  std::string out = token;
  unsetenv("SEALIFT_ADOPT");
  return out;
}

host::EnclaveInfo info_of(const Instance& instance, const std::string& path) {
  host::EnclaveInfo info;
  const auto* name = reinterpret_cast<const char*>(instance.image().config().name);
  info.name.assign(name, strnlen(name, sizeof instance.image().config().name));
  info.image = path;
  info.program = host::this_program();
  info.elrange_base = instance.base();
  info.elrange_size = instance.image().config().elrange_size;
  info.epc_bytes = (instance.image().page_count() + 1) * sgx::kPageSize;
  std::memcpy(info.mrenclave.data(), instance.image().sigstruct().enclavehash.bytes, info.mrenclave.size());
  return info;
}

void connect(Instance& instance, const std::string& path, const std::string& token) {
  const DaemonLink::EnclaveId id = daemon_link().add(info_of(instance, path), instance, token);
  instance.on_close([id] { daemon_link().remove(id); });
}

std::unique_ptr<Enclave> adopt(host::Image image, const std::string& path, const std::string& token) {
  using namespace std::chrono_literals;
  const Result<host::Adoption> adoption = daemon_link().adopt(token, 10s);
  if (!adoption) {
    throw host::Error(adoption.error(), path + ": nothing to adopt: the migration that started this program is over");
  }
  try {
    if (std::memcmp(adoption->mrenclave.data(), image.sigstruct().enclavehash.bytes, 32) != 0) {
      throw host::Error(Errc::kWrongEnclave, path + ": another enclave than the one that is being migrated here");
    }
    auto instance = std::make_unique<Instance>(std::move(image), adoption->elrange_base);
    instance->begin_restore(adoption->attempt);
    connect(*instance, path, token);
    instance->wait_adopted();
    return instance;
  } catch (const host::Error& e) {
    daemon_link().adopt_failed(token, e.code(), e.what());
    throw;
  }
}

}  // namespace

std::unique_ptr<Enclave> Enclave::open(const std::string& path, EnclaveOptions options) {
  host::Image image = host::Image::load(path);
  if (const std::string missing = host::missing_on_this_cpu(image.config()); !missing.empty()) {
    throw host::Error(Errc::kPolicy, path + ": this CPU lacks what the enclave's baseline promises: " + missing);
  }
  const std::string token = options.daemon ? take_adopt_token() : std::string();
  if (!token.empty()) return adopt(std::move(image), path, token);
  auto instance = std::make_unique<Instance>(std::move(image), std::nullopt);
  instance->start(options.arguments);
  if (options.daemon) connect(*instance, path, {});
  return instance;
}

}  // namespace sealift
