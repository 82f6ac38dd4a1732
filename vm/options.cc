#include "vm/options.h"

namespace sealift::vm {

namespace {
constexpr std::uint32_t kMaxMultifd = 255;  // QEMU's
}

std::optional<Problem> invalid(const MoveOptions& options) {
  const auto bad = [](std::string what, std::string object, std::string advice) {
    return Problem{Problem::Kind::kBadRequest, std::move(what), std::move(object), std::move(advice)};
  };
  if (!options.compress.empty() && options.compress != "zlib" && options.compress != "zstd") {
    return bad("QEMU knows no such compression", options.compress, "zlib or zstd");
  }
  if (options.multifd > kMaxMultifd) return bad("too many connections", std::to_string(options.multifd), "255 at most");
  // QEMU takes a limit below ten bytes a second for none.
  if (options.bandwidth != 0 && options.bandwidth < 1024) {
    return bad("bandwidth too low", std::to_string(options.bandwidth), "1 KiB/s at least");
  }
  if (options.downtime_limit.count() < 1 || options.downtime_limit.count() > 2'000'000) {
    return bad("not a downtime limit", std::to_string(options.downtime_limit.count()) + " ms",
               "1 to 2000000 milliseconds");
  }
  return std::nullopt;
}

std::vector<QmpCommand> set_up_both(const MoveOptions& options) {
  const bool multifd = options.multifd != 0 || !options.compress.empty();
  nlohmann::json capabilities = nlohmann::json::array();
  const auto set = [&](const char* name, bool state) {
    capabilities.push_back({{"capability", name}, {"state", state}});
  };
  set("x-ignore-shared", true);
  set("pause-before-switchover", true);
  set("return-path", true);
  set("events", true);
  set("multifd", multifd);
  std::vector<QmpCommand> commands = {{"migrate-set-capabilities", {{"capabilities", capabilities}}}};
  if (multifd) {
    commands.push_back({"migrate-set-parameters",
                        {{"multifd-channels", options.multifd == 0 ? 2 : options.multifd},
                         {"multifd-compression", options.compress.empty() ? "none" : options.compress}}});
  }
  return commands;
}

}  // namespace sealift::vm
