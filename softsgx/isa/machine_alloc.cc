// Who owns which EPC page. Everything here runs under the machine's lock; see machine.h, rule 2.
#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "softsgx/isa/digest.h"
#include "softsgx/isa/machine.h"
#include "softsgx/isa/machine_format.h"

namespace softsgx {
namespace {

constexpr EpcIndex kWordBits = 64;

constexpr std::uint64_t bit(EpcIndex i) noexcept {
  return std::uint64_t{1} << (i % kWordBits);
}

// Sets or clears this process's lock on the machine's first byte; waits. If the kernel cannot lock the file, going on
// would corrupt the machine for everybody.
void file_lock(const Machine& m, std::uint64_t offset, short type) noexcept {
  struct flock request {};
  request.l_type = type;
  request.l_whence = SEEK_SET;
  request.l_start = static_cast<off_t>(offset);
  request.l_len = 1;
  while (fcntl(m.fd(), F_OFD_SETLKW, &request) != 0) {
    if (errno == EINTR) continue;
    std::fprintf(stderr, "softsgx: cannot lock %s: %s; put it on a file system with file locks\n", m.path().c_str(),
                 std::strerror(errno));
    std::abort();
  }
}

}  // namespace

Machine::Lock::Lock(Machine& m) noexcept : m_(m) {
  m_.mutex_.lock();
  file_lock(m_, m_.base_offset_, F_WRLCK);
}

Machine::Lock::~Lock() {
  file_lock(m_, m_.base_offset_, F_UNLCK);
  m_.mutex_.unlock();
}

bool Machine::allocated(EpcIndex i) const noexcept {
  return (bitmap_[i / kWordBits] & bit(i)) != 0;
}

std::optional<EpcIndex> Machine::first_fit(EpcIndex count, std::uint64_t begin, std::uint64_t end) const noexcept {
  std::uint64_t i = begin, run = 0;
  while (i < end) {
    const std::uint64_t word = bitmap_[i / kWordBits];
    if (i % kWordBits == 0 && word == ~std::uint64_t{0}) {  // a full word ends any run
      run = 0;
      i += kWordBits;
      continue;
    }
    run = (word & bit(static_cast<EpcIndex>(i))) == 0 ? run + 1 : 0;
    ++i;
    if (run == count) return static_cast<EpcIndex>(i - count);
  }
  return std::nullopt;
}

// Each part that a process has ever had pages in costs it a page table: so it fills one up before it begins another,
// and begins one where nobody else is, as long as there is such a one; best of all one that it knows.
std::optional<EpcIndex> Machine::find_run(EpcIndex count) noexcept {
  const std::uint64_t end = first_ + count_;
  const std::uint64_t lowest = std::max<std::uint64_t>(first_, control_->lowest_free_word * kWordBits);
  const auto part = [&](std::uint64_t begin) {
    return first_fit(count, std::max<std::uint64_t>(begin, first_), std::min(begin + kPartPages, end));
  };
  const auto is_free = [&](std::uint64_t begin) {
    const std::uint64_t* words = bitmap_ + begin / kWordBits;
    return std::all_of(words, words + kPartPages / kWordBits, [](std::uint64_t word) { return word == 0; });
  };
  if (const auto run = part(home_)) return run;
  for (const bool known : {true, false}) {
    for (std::uint64_t begin = lowest - lowest % kPartPages; begin < end; begin += kPartPages) {
      if (parts_[begin / kPartPages] != known || !is_free(begin)) continue;
      const auto run = part(begin);
      if (!run) continue;  // longer than a part
      home_ = static_cast<EpcIndex>(begin);
      return run;
    }
  }
  const auto run = first_fit(count, lowest, end);
  if (run) home_ = *run - *run % kPartPages;  // or every page from here on would look at all parts again
  return run;
}

std::optional<EpcIndex> Machine::allocate_run(EpcIndex count, const Owner& owner, std::uint64_t generation) {
  if (count == 0 || count > count_) return std::nullopt;
  const Lock lock(*this);
  if (this->generation() != generation) return std::nullopt;
  auto run = find_run(count);
  if (!run && reclaim_dead_locked() > 0) run = find_run(count);
  if (!run) return std::nullopt;
  for (EpcIndex i = *run; i < *run + count; ++i) {
    epcm_[i].state.store(0);
    epcm_[i].owner = owner;
    bitmap_[i / kWordBits] |= bit(i);
  }
  const std::uint64_t words = (std::uint64_t{epc_pages_} + kWordBits - 1) / kWordBits;
  while (control_->lowest_free_word < words && bitmap_[control_->lowest_free_word] == ~std::uint64_t{0}) {
    ++control_->lowest_free_word;
  }
  if (this->generation() != generation) {
    // Exchanged meanwhile: part of this went to a section that was empty and that nobody could allocate from, as the
    // lock moved along with us.
    for (EpcIndex i = *run; i < *run + count; ++i) free_locked(i);
    return std::nullopt;
  }
  return run;
}

void Machine::free_locked(EpcIndex i) noexcept {
  epcm_[i].state.store(0);
  epcm_[i].active.store(0);
  epcm_[i].children.store(0);
  epcm_[i].owner = {};
  bitmap_[i / kWordBits] &= ~bit(i);
  control_->lowest_free_word = std::min<std::uint64_t>(control_->lowest_free_word, i / kWordBits);
}

EpcIndex Machine::release(EpcIndex first, EpcIndex count, std::uint64_t generation) {
  const Lock lock(*this);
  if (this->generation() != generation) return 0;
  EpcIndex kept = 0;
  for (EpcIndex i = first; i < first + count; ++i) {
    if (!is_epc(i) || !allocated(i)) continue;
    if ((epcm_[i].state.load() & epcm::kValid) != 0) {
      ++kept;
    } else {
      free_locked(i);
    }
  }
  return kept;
}

EpcIndex Machine::reclaim_dead_locked() {
  std::vector<std::pair<Owner, bool>> known;  // each process is asked for once
  const auto alive = [&](const Owner& owner) {
    for (const auto& [who, answer] : known) {
      if (who == owner) return answer;
    }
    return known.emplace_back(owner, owner.alive()).second;
  };
  EpcIndex freed = 0;
  for (EpcIndex i = first_; i < first_ + count_; ++i) {
    if (!allocated(i) || alive(epcm_[i].owner)) continue;
    free_locked(i);
    ++freed;
  }
  return freed;
}

EpcIndex Machine::reclaim_dead() {
  const Lock lock(*this);
  return reclaim_dead_locked();
}

void Machine::power_cycle() {
  const Lock lock(*this);
  const bool whole = count_ == epc_pages_;
  if (whole) {
    // First: whoever still runs finds its EPC lost, rather than free.
    std::uint64_t generation = 0;
    while (generation == 0) (void)draw_random(generation);
    std::atomic_ref(control_->generation).store(generation);
    (void)draw_random(control_->report_keyid);
  }
  for (EpcIndex i = first_; i < first_ + count_; ++i) {
    if (allocated(i)) free_locked(i);
  }
  if (is_section()) {
    std::memset(run(first_, count_), 0xff, std::size_t{count_} << sgx::kPageShift);
  } else {
    // Gives the memory back; on a device, where this cannot be done, old bytes stay until EADD or EAUG overwrites them.
    (void)madvise(run(first_, count_), std::size_t{count_} << sgx::kPageShift, MADV_REMOVE);
  }
}

Machine::Usage Machine::usage() {
  const Lock lock(*this);
  Usage u;
  u.total = count_;
  std::vector<Owner> owners;
  for (EpcIndex i = first_; i < first_ + count_; ++i) {
    if (!allocated(i)) {
      ++u.free;
      continue;
    }
    const Owner& owner = epcm_[i].owner;
    if (std::find(owners.begin(), owners.end(), owner) == owners.end()) owners.push_back(owner);
    const std::uint64_t s = epcm_[i].state.load();
    if ((s & epcm::kValid) != 0 && epcm::type(s) == sgx::PageType::kSecs) {
      ++u.enclaves;
      u.threads_inside += active_processors(i);
    }
  }
  u.processes = static_cast<EpcIndex>(owners.size());
  return u;
}

}  // namespace softsgx
