#include "softsgx/preload/options.h"

#include <charconv>
#include <cstdlib>

namespace softsgx::preload {
namespace {

std::optional<std::uint64_t> number(const std::string& text, int base) {
  std::uint64_t v = 0;
  const char* begin = text.data();
  const char* end = begin + text.size();
  if (base == 16 && text.starts_with("0x")) begin += 2;
  const auto [stop, error] = std::from_chars(begin, end, v, base);
  if (error != std::errc{} || stop != end || begin == end) return std::nullopt;
  return v;
}

std::string variable(const char* name) {
  const char* v = std::getenv(name);
  return v ? v : "";
}

}  // namespace

std::optional<StepWindow> parse_step_window(const std::string& text) {
  if (const std::size_t at = text.find("@+"); at != std::string::npos) {
    auto window = parse_step_window(text.substr(0, at));
    const auto tcs = number(text.substr(at + 2), 16);
    if (!window || window->tcs || !tcs) return std::nullopt;
    window->tcs = *tcs;
    return window;
  }
  if (text == "all") return StepWindow{.enabled = true};
  const std::size_t dash = text.find('-');
  if (dash == std::string::npos) return std::nullopt;
  std::string begin = text.substr(0, dash), end = text.substr(dash + 1);
  const bool relative = begin.starts_with('+');
  if (relative != end.starts_with('+')) return std::nullopt;
  const auto b = number(begin.substr(relative), 16), e = number(end.substr(relative), 16);
  if (!b || !e || *b >= *e) return std::nullopt;
  return StepWindow{.enabled = true, .relative = relative, .begin = *b, .end = *e};
}

std::optional<Options> read_options(std::string& error) {
  Options o;
  o.machine = variable("SOFTSGX_MACHINE");
  if (const std::string hz = variable("SOFTSGX_AEX_HZ"); !hz.empty()) {
    const auto n = number(hz, 10);
    if (!n || *n > 1'000'000) {
      error = "SOFTSGX_AEX_HZ=" + hz + " is not a number of interrupts a second";
      return std::nullopt;
    }
    o.aex_hz = static_cast<unsigned>(*n);
  }
  if (const std::string seed = variable("SOFTSGX_SEED"); !seed.empty()) {
    const auto n = number(seed, 10);
    if (!n) {
      error = "SOFTSGX_SEED=" + seed + " is not a number";
      return std::nullopt;
    }
    o.seed = *n;
  }
  if (const std::string step = variable("SOFTSGX_SINGLE_STEP"); !step.empty()) {
    const auto window = parse_step_window(step);
    if (!window) {
      error = "SOFTSGX_SINGLE_STEP=" + step +
              " is neither \"all\" nor BEGIN-END nor +BEGIN-+END in hexadecimal (with @+TCS behind it or not)";
      return std::nullopt;
    }
    o.step = *window;
  }
  o.patch_cpuid = variable("SOFTSGX_PATCH_CPUID") == "1";
  o.trap_enclu = variable("SOFTSGX_TRAP_ENCLU") == "1";
  o.no_fsgsbase = variable("SOFTSGX_NO_FSGSBASE") == "1";
  return o;
}

}  // namespace softsgx::preload
