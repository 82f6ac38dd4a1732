#include "bench/figure.h"

#include <algorithm>
#include <cstdio>
#include <iostream>

namespace sealift::bench {

Sample summarize(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    const double position = share * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(position);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (position - static_cast<double>(below)) * (values[above] - values[below]);
  };
  const double median = at(0.5);
  return {median, median == 0 ? 0 : (at(0.75) - at(0.25)) / median, values.front()};
}

void print(const Figure& figure, bool json) {
  if (json) {
    nlohmann::ordered_json line{{"name", figure.name}, {"ratio", figure.ratio}, {"reference", figure.reference}};
    if (!figure.wanted.empty()) line["wanted"] = figure.wanted;
    line.update(figure.raw);
    std::cout << line.dump() << std::endl;
    return;
  }
  std::printf("%-28s %9.3f  %-9s  against %s\n", figure.name.c_str(), figure.ratio, figure.wanted.c_str(),
              figure.reference.c_str());
  for (const auto& [key, value] : figure.raw.items()) std::printf("    %s: %s\n", key.c_str(), value.dump().c_str());
  std::fflush(stdout);
}

}  // namespace sealift::bench
