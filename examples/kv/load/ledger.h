// What kv-load has written, and what of it was acknowledged: the claim that is checked in the end.
//
// Every key has one writer. It writes versions 1, 2, 3 …; the store must hold the last acknowledged one, or a later one
// whose answer was lost. Not thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kv::load {

class Ledger {
 public:
  Ledger(std::uint32_t keys, std::uint32_t value_bytes) : value_bytes_(value_bytes), keys_(keys) {}

  [[nodiscard]] std::uint32_t size() const { return static_cast<std::uint32_t>(keys_.size()); }
  [[nodiscard]] static std::string key(std::uint32_t index);
  // The version and, all over the rest, what can only belong to this key and version.
  [[nodiscard]] std::string value(std::uint32_t index, std::uint64_t version) const;

  // Nothing: this key must not be written any more (see broken()).
  [[nodiscard]] std::optional<std::uint64_t> next_version(std::uint32_t index);
  void acknowledged(std::uint32_t index, std::uint64_t version);
  // A connection broke between a write and its answer. The write may still be under way, inside an enclave that is
  // moving, and may happen later than anything that is sent now. So nothing newer is written to this key, or the late
  // write would rightly undo what was acknowledged after it.
  void broken(std::uint32_t index) { keys_[index].open = true; }
  [[nodiscard]] bool written(std::uint32_t index) const { return keys_[index].acknowledged > 0; }
  [[nodiscard]] std::uint32_t retired() const;

  // Nothing: `stored` is what may be stored. Else what is wrong, in a few words. `stored` is nothing if there is no
  // key.
  [[nodiscard]] std::optional<std::string> check(std::uint32_t index, std::optional<std::string_view> stored) const;

  // One line of numbers, then one for each key. Throw std::runtime_error with one line.
  void save(const std::string& path) const;
  [[nodiscard]] static Ledger load(const std::string& path);

 private:
  struct Key {
    std::uint64_t sent = 0;
    std::uint64_t acknowledged = 0;
    bool open = false;
  };
  std::uint32_t value_bytes_;
  std::vector<Key> keys_;
};

}  // namespace kv::load
