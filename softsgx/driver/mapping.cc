// Keeps what is really mapped in ELRANGE in step with mappings, page table and EPCM.
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "softsgx/cpu/interrupt.h"
#include "softsgx/driver/enclave.h"
#include "softsgx/isa/raw_syscall.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

namespace softsgx {
namespace {

// Well below vm.max_map_count's default of 65,530: the program needs some too.
constexpr long kMaxPieces = 60'000;
std::atomic<long> g_pieces = 0;  // boundaries between kernel mappings in all enclaves of the process

void complain(const char* text) noexcept {
  static std::atomic<bool> said = false;
  if (!said.exchange(true)) raw::call(SYS_write, 2, raw::arg(text), std::strlen(text));
}

long explain(long error) noexcept {
  if (error == -ENOMEM) {
    complain(
        "softsgx: too many separate memory mappings; raise vm.max_map_count, or use fewer changes of rights between "
        "neighbouring enclave pages\n");
  } else if (error == -EPERM || error == -EACCES) {
    complain("softsgx: the machine file cannot be mapped executable; put it on a file system without noexec\n");
  }
  return error;
}

bool failed(long r) noexcept {
  return r < 0 && r > -4096;
}

}  // namespace

// A maximal run of pages that one system call can bring to its wanted state.
struct Run {
  std::uint64_t first = 0, count = 0;
  EpcIndex epc = kNotEpc;  // of the first page; kNotEpc: placeholder wanted
  int prot = 0;
  bool in_place = false;  // the right EPC pages are mapped already: only rights differ
  [[nodiscard]] bool extends(const Run& next) const noexcept {
    return next.first == first + count && next.prot == prot && next.in_place == in_place &&
           (epc == kNotEpc ? next.epc == kNotEpc : next.epc == epc + count);
  }
};

namespace {

long apply(const Run& r, const Machine& m, const PageTable& table) noexcept {
  if (r.count == 0) return 0;
  const std::uint64_t at = table.address_of(r.first), bytes = r.count << sgx::kPageShift;
  const auto prot = static_cast<std::uint64_t>(r.prot);
  if (r.in_place) return raw::call(SYS_mprotect, at, bytes, prot);
  if (r.epc == kNotEpc) {
    return raw::call(SYS_mmap, at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
                     ~std::uint64_t{0}, 0);
  }
  const long got = raw::call(SYS_mmap, at, bytes, prot, MAP_SHARED | MAP_FIXED, static_cast<std::uint64_t>(m.fd()),
                             m.file_offset(r.epc));
  if (failed(got)) return got;
  // First touch costs more than everything else here: fault the page tables in at once. An optimisation only.
  raw::call(SYS_madvise, at, bytes,
            static_cast<std::uint64_t>(r.prot & PROT_WRITE ? MADV_POPULATE_WRITE : MADV_POPULATE_READ));
  return 0;
}

// Number of boundaries from the page before the range to the page behind it.
long boundaries(const PageTable& t, std::uint64_t first, std::uint64_t end) noexcept {
  long n = 0;
  for (std::uint64_t i = first == 0 ? 0 : first - 1; i < end; ++i) n += t.boundary(i);
  return n;
}

}  // namespace

long Enclave::install_in(const VmaTable::Vma& vma) noexcept {
  const Range part = vma.range.intersect(elrange());
  if (part.empty()) return 0;
  const std::uint64_t first = table_.page_of(part.begin), end = table_.page_of(part.end - 1) + 1;
  const long before = boundaries(table_, first, end);
  Run run;
  long result = 0;
  const bool gone = lost();
  auto flush = [&] {
    if (run.count == 0) return;
    const long r = apply(run, machine_, table_);
    if (failed(r)) {
      result = explain(r);
    } else {
      for (std::uint64_t i = run.first; i < run.first + run.count; ++i) {
        table_.set_installed(i, {run.epc != kNotEpc, run.prot});
      }
    }
    run = Run{};
  };
  for (std::uint64_t i = first; i < end; ++i) {
    const EpcIndex epc = gone ? kNotEpc : table_.page(i);
    const PageTable::Installed now = table_.installed(i);
    const bool allowed = epc != kNotEpc && (table_.max_prot(i) & vma.prot) == vma.prot;
    Run want{.first = i, .count = 1, .epc = epc, .prot = allowed ? vma.prot & machine_.page_rights(epc) : 0};
    want.in_place = now.epc && epc != kNotEpc;
    // Nothing to do: already so; or nothing is mapped and nothing may be.
    const bool done = want.in_place ? now.prot == want.prot : !now.epc && want.prot == 0;
    if (done || !run.extends(want)) flush();
    if (done) continue;
    if (run.count == 0) {
      run = want;
    } else {
      ++run.count;
    }
  }
  flush();
  const long pieces = g_pieces += boundaries(table_, first, end) - before;
  if (pieces > kMaxPieces && result == 0) result = explain(-ENOMEM);
  return result;
}

long Enclave::install(const Range& range) noexcept {
  long result = 0;
  vmas_.for_each(range.intersect(elrange()), [&](const VmaTable::Vma& vma) {
    if (const long r = install_in(vma); r != 0) result = r;
  });
  return result;
}

void Enclave::drop_if_lost() noexcept {
  if (!lost()) return;
  Locked locked(*this);
  if (lost()) drop();
}

void Enclave::drop() noexcept {
  if (dropped_) return;
  install(hull());
  dropped_ = true;
  // A thread in the middle of a patched EEXIT executes nothing of EPC, and would not notice.
  Interrupts::send_to_inside(kNotEpc);
}

// Somebody else has replaced what was mapped there: forget it.
void Enclave::uninstall(const Range& range) noexcept {
  const Range part = range.intersect(elrange());
  if (part.empty()) return;
  const std::uint64_t first = table_.page_of(part.begin), end = table_.page_of(part.end - 1) + 1;
  const long before = boundaries(table_, first, end);
  for (std::uint64_t i = first; i < end; ++i) table_.set_installed(i, {});
  g_pieces += boundaries(table_, first, end) - before;
}

void Enclave::refresh_mapped_bits(const Range& range) {
  const Range part = range.intersect(elrange());
  if (part.empty()) return;
  const std::uint64_t first = table_.page_of(part.begin), end = table_.page_of(part.end - 1) + 1;
  std::uint64_t next = first;
  vmas_.for_each(part, [&](const VmaTable::Vma& vma) {
    const std::uint64_t a = table_.page_of(vma.range.begin), b = table_.page_of(vma.range.end - 1) + 1;
    for (; next < a; ++next) table_.set_mapped(next, false);
    for (; next < b; ++next) table_.set_mapped(next, vma.prot != PROT_NONE);
  });
  for (; next < end; ++next) table_.set_mapped(next, false);
}

void Enclave::update_hull() {
  Range hull{~std::uint64_t{0}, 0};
  vmas_.for_each({0, ~std::uint64_t{0}}, [&](const VmaTable::Vma& vma) {
    hull.begin = std::min(hull.begin, vma.range.begin);
    hull.end = std::max(hull.end, vma.range.end);
  });
  if (hull.empty()) hull = {};
  hull_begin_ = hull.begin;
  hull_end_ = hull.end;
}

long Enclave::may_map(const Range& range, int prot) {
  Locked locked(*this);
  const Range part = range.intersect(elrange());
  if (!created_ || part.empty()) return 0;
  for (std::uint64_t i = table_.page_of(part.begin); i <= table_.page_of(part.end - 1); ++i) {
    if (table_.page(i) != kNotEpc && (prot & ~table_.max_prot(i))) return -EACCES;
  }
  return 0;
}

long Enclave::mapped(const Range& range, int prot) {
  Locked locked(*this);
  vmas_.map(range, prot);
  update_hull();
  uninstall(range);
  refresh_mapped_bits(range);
  return install(range);
}

void Enclave::unmapped(const Range& range) {
  Locked locked(*this);
  vmas_.unmap(range);
  update_hull();
  uninstall(range);
  refresh_mapped_bits(range);
}

long Enclave::protect(const Range& range, int prot) {
  Locked locked(*this);
  vmas_.protect(range, prot);
  refresh_mapped_bits(range);
  return install(range);
}

void Enclave::for_each_mapping(const Range& range, const std::function<void(const VmaTable::Vma&)>& visit) {
  Locked locked(*this);
  vmas_.for_each(range, visit);
}

}  // namespace softsgx
