// A figure: a ratio against a named reference, measured in the same run, with the raw numbers beside it.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace sealift::bench {

// Of several repetitions. The spread is what half of them lie within: (third quartile - first) / median.
struct Sample {
  double median = 0, spread = 0, best = 0;
};
[[nodiscard]] Sample summarize(std::vector<double> values);

struct Figure {
  std::string name;
  double ratio = 0;
  std::string reference;  // what the ratio is against
  std::string wanted;     // "" when the design asks for none
  nlohmann::ordered_json raw;
};

// One JSON object a line, or a line for people.
void print(const Figure& figure, bool json);

}  // namespace sealift::bench
