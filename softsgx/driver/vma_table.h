// The mappings of one enclave file in this process: disjoint address ranges with rights, as the kernel's VMAs.
//
// Pure bookkeeping; the caller locks. Addresses and lengths are multiples of the page size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>

namespace softsgx {

struct Range {
  std::uint64_t begin = 0, end = 0;
  [[nodiscard]] bool empty() const noexcept { return begin >= end; }
  [[nodiscard]] Range intersect(const Range& o) const noexcept {
    return {begin > o.begin ? begin : o.begin, end < o.end ? end : o.end};
  }
  friend bool operator==(const Range&, const Range&) = default;
};

class VmaTable {
 public:
  struct Vma {
    Range range;
    int prot = 0;  // PROT_*
  };

  // mmap: replaces whatever was mapped in the range.
  void map(const Range& range, int prot);
  // munmap of any range.
  void unmap(const Range& range);
  // mprotect of the parts that are mapped here.
  void protect(const Range& range, int prot);

  [[nodiscard]] std::optional<Vma> find(std::uint64_t address) const;
  // Calls `visit` for each mapped part of the range, in order of addresses.
  void for_each(const Range& range, const std::function<void(const Vma&)>& visit) const;
  [[nodiscard]] bool overlaps(const Range& range) const;
  [[nodiscard]] bool empty() const noexcept { return vmas_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return vmas_.size(); }

 private:
  struct Value {
    std::uint64_t end;
    int prot;
  };
  using Map = std::map<std::uint64_t, Value>;  // by begin
  // Makes `at` a boundary if it lies inside a mapping.
  void split(std::uint64_t at);
  // Merges neighbours with equal rights around the range.
  void merge(const Range& range);
  Map vmas_;
};

}  // namespace softsgx
