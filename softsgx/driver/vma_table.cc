#include "softsgx/driver/vma_table.h"

#include <iterator>

namespace softsgx {

void VmaTable::split(std::uint64_t at) {
  auto it = vmas_.upper_bound(at);
  if (it == vmas_.begin()) return;
  it = std::prev(it);
  if (it->first == at || it->second.end <= at) return;
  const Value tail = it->second;
  it->second.end = at;
  vmas_.emplace(at, tail);
}

void VmaTable::merge(const Range& range) {
  auto it = vmas_.lower_bound(range.begin);
  if (it != vmas_.begin()) it = std::prev(it);
  while (it != vmas_.end() && it->first <= range.end) {
    const auto next = std::next(it);
    if (next != vmas_.end() && next->first == it->second.end && next->second.prot == it->second.prot) {
      it->second.end = next->second.end;
      vmas_.erase(next);
    } else {
      it = next;
    }
  }
}

void VmaTable::unmap(const Range& range) {
  if (range.empty()) return;
  split(range.begin);
  split(range.end);
  vmas_.erase(vmas_.lower_bound(range.begin), vmas_.lower_bound(range.end));
}

void VmaTable::map(const Range& range, int prot) {
  if (range.empty()) return;
  unmap(range);
  vmas_.emplace(range.begin, Value{range.end, prot});
  merge(range);
}

void VmaTable::protect(const Range& range, int prot) {
  if (range.empty()) return;
  split(range.begin);
  split(range.end);
  for (auto it = vmas_.lower_bound(range.begin); it != vmas_.end() && it->first < range.end; ++it) {
    it->second.prot = prot;
  }
  merge(range);
}

std::optional<VmaTable::Vma> VmaTable::find(std::uint64_t address) const {
  auto it = vmas_.upper_bound(address);
  if (it == vmas_.begin()) return std::nullopt;
  it = std::prev(it);
  if (it->second.end <= address) return std::nullopt;
  return Vma{{it->first, it->second.end}, it->second.prot};
}

void VmaTable::for_each(const Range& range, const std::function<void(const Vma&)>& visit) const {
  if (range.empty()) return;
  auto it = vmas_.upper_bound(range.begin);
  if (it != vmas_.begin()) it = std::prev(it);
  for (; it != vmas_.end() && it->first < range.end; ++it) {
    const Range part = range.intersect({it->first, it->second.end});
    if (!part.empty()) visit(Vma{part, it->second.prot});
  }
}

bool VmaTable::overlaps(const Range& range) const {
  bool any = false;
  for_each(range, [&](const Vma&) { any = true; });
  return any;
}

}  // namespace softsgx
