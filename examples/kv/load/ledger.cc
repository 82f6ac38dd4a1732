#include "examples/kv/load/ledger.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <stdexcept>

namespace kv::load {
namespace {

constexpr char kMagic[] = "kv-load-ledger-1";
constexpr std::uint32_t kMaxKeys = 100'000'000;

}  // namespace

std::string Ledger::key(std::uint32_t index) {
  char text[24];
  std::snprintf(text, sizeof text, "load:%09u", index);
  return text;
}

std::string Ledger::value(std::uint32_t index, std::uint64_t version) const {
  std::string text = std::to_string(version) + ":" + std::to_string(index) + ":";
  std::uint64_t state = version * 0x9e3779b97f4a7c15u + index;
  while (text.size() < value_bytes_) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    text.push_back(static_cast<char>('a' + (state >> 33) % 26));
  }
  return text;
}

std::optional<std::uint64_t> Ledger::next_version(std::uint32_t index) {
  Key& k = keys_[index];
  if (k.open) return std::nullopt;
  return ++k.sent;
}

void Ledger::acknowledged(std::uint32_t index, std::uint64_t version) {
  keys_[index].acknowledged = std::max(keys_[index].acknowledged, version);
}

std::uint32_t Ledger::retired() const {
  return static_cast<std::uint32_t>(std::count_if(keys_.begin(), keys_.end(), [](const Key& k) { return k.open; }));
}

std::optional<std::string> Ledger::check(std::uint32_t index, std::optional<std::string_view> stored) const {
  const Key& k = keys_[index];
  const std::string least = "version " + std::to_string(k.acknowledged) + " was acknowledged, ";
  if (!stored) return k.acknowledged == 0 ? std::nullopt : std::optional(least + "nothing is stored");
  std::uint64_t version = 0;
  std::from_chars(stored->data(), stored->data() + stored->size(), version);
  if (*stored != value(index, version)) return "the stored value is none that was written";
  if (version > k.sent) return "version " + std::to_string(version) + " is stored, which was never sent";
  if (version < k.acknowledged) return least + "version " + std::to_string(version) + " is stored";
  return std::nullopt;
}

void Ledger::save(const std::string& path) const {
  std::ofstream out(path, std::ios::trunc);
  out << kMagic << ' ' << keys_.size() << ' ' << value_bytes_ << '\n';
  for (const Key& k : keys_) out << k.sent << ' ' << k.acknowledged << ' ' << k.open << '\n';
  if (!out.flush()) throw std::runtime_error(path + ": cannot write the ledger");
}

Ledger Ledger::load(const std::string& path) {
  std::ifstream in(path);
  std::string magic;
  std::uint32_t keys = 0, value_bytes = 0;
  if (!(in >> magic >> keys >> value_bytes) || magic != kMagic || keys > kMaxKeys) {
    throw std::runtime_error(path + ": not a ledger that kv-load --record has written");
  }
  Ledger ledger(keys, value_bytes);
  for (Key& k : ledger.keys_) {
    if (!(in >> k.sent >> k.acknowledged >> k.open) || k.acknowledged > k.sent) {
      throw std::runtime_error(path + ": the ledger is cut off or damaged");
    }
  }
  return ledger;
}

}  // namespace kv::load
