#include "softsgx/isa/machine.h"

#include <cpuid.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "softsgx/isa/digest.h"
#include "softsgx/isa/machine_format.h"
#include "softsgx/isa/raw_syscall.h"

namespace softsgx {
namespace {

constexpr std::size_t kSecsStateOffset = 2048;  // within the reserved bytes of SECS
static_assert(kSecsStateOffset >= offsetof(sgx::Secs, reserved4));
static_assert(kSecsStateOffset + sizeof(SecsState) <= sgx::kPageSize);

class UniqueFd {
 public:
  explicit UniqueFd(int fd) noexcept : fd_(fd) {}
  ~UniqueFd() {
    if (fd_ >= 0) close(fd_);
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  [[nodiscard]] int get() const noexcept { return fd_; }

 private:
  int fd_;
};

std::string failure(const std::string& what, const std::string& path, int error) {
  return what + " " + path + ": " + std::strerror(error);
}

// The state components that XGETBV says the kernel has enabled, of those that softsgx knows the layout of. AVX-512's
// three only together (SDM 1, section 13.3).
std::uint64_t host_xfrm() noexcept {
  std::uint64_t out = sgx::xfrm::kLegacy;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & bit_OSXSAVE) == 0) return out;
  std::uint32_t lo = 0, hi = 0;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  if (__get_cpuid_count(0xd, 0, &a, &b, &c, &d) == 0) return out;
  const std::uint64_t have = (std::uint64_t{hi} << 32 | lo) & (std::uint64_t{d} << 32 | a);
  if ((have & sgx::xfrm::kAvx) != 0) out |= sgx::xfrm::kAvx;
  if ((have & sgx::xfrm::kAvx512) == sgx::xfrm::kAvx512 && (out & sgx::xfrm::kAvx) != 0) out |= sgx::xfrm::kAvx512;
  return out | (have & sgx::xfrm::kPkru);
}

bool sound_xfrm(std::uint64_t x) noexcept {
  using namespace sgx::xfrm;
  const std::uint64_t avx512 = x & kAvx512;
  return (x & kLegacy) == kLegacy && (x & ~(kLegacy | kAvx | kAvx512 | kPkru)) == 0 &&
         (avx512 == 0 || (avx512 == kAvx512 && (x & kAvx) != 0));
}

// Never 0, which is what memory without a section says.
bool draw_generation(std::uint64_t& out) noexcept {
  do {
    if (!draw_random(out)) return false;
  } while (out == 0);
  return true;
}

bool fill(int fd, std::uint64_t begin, std::uint64_t end) {
  const std::vector<std::uint8_t> ones(1u << 20, 0xff);
  while (begin < end) {
    const ssize_t n =
        pwrite(fd, ones.data(), std::min<std::uint64_t>(ones.size(), end - begin), static_cast<off_t>(begin));
    if (n <= 0) return false;
    begin += static_cast<std::uint64_t>(n);
  }
  return true;
}

}  // namespace

std::unique_ptr<Machine> Machine::create(const std::string& path, const CreateOptions& options, std::string& error) {
  constexpr std::uint64_t kMaxPages = 1u << 30;
  const std::uint64_t pages = options.epc_bytes >> sgx::kPageShift;
  if (pages == 0 || pages > kMaxPages || options.epc_bytes % sgx::kPageSize != 0) {
    error = "cannot create " + path + ": EPC size must be a multiple of 4 KiB between 4 KiB and 4 TiB";
    return nullptr;
  }
  const Layout layout = Layout::of(pages);
  Header h{};
  std::memcpy(h.magic, kMachineMagic, sizeof(h.magic));
  h.version = kMachineVersion;
  h.header_bytes = sizeof(Header);
  h.epc_pages = pages;
  h.bitmap_offset = layout.bitmap;
  h.epcm_offset = layout.epcm;
  h.epc_offset = layout.epc;
  h.total_bytes = layout.total;
  Control control{};
  if (!options.section_of.empty()) {
    const auto package = open(options.section_of, {}, error);
    if (package == nullptr) return nullptr;
    h.fuses = package->fuses();
    h.cpusvn = package->cpusvn();
    h.xfrm_allowed = package->xfrm_allowed();
    control.report_keyid = package->report_keyid();
  } else if (!draw_random(h.fuses) || !draw_random(control.report_keyid)) {
    error = "cannot create " + path + ": the random generator failed";
    return nullptr;
  } else {
    h.cpusvn = kDefaultCpusvn;
    h.xfrm_allowed = host_xfrm();
  }
  if (options.section) h.flags |= kSection;
  if (!draw_generation(control.generation)) {
    error = "cannot create " + path + ": the random generator failed";
    return nullptr;
  }
  if (options.cpusvn) h.cpusvn = *options.cpusvn;
  if (options.xfrm_allowed) h.xfrm_allowed = *options.xfrm_allowed;
  if (!sound_xfrm(h.xfrm_allowed)) {
    error =
        "cannot create " + path + ": XFRM must have x87 and SSE, and AVX-512's three bits only together and with AVX";
    return nullptr;
  }
  const Digest checksum = sha256(&h, offsetof(Header, checksum));
  std::copy(checksum.begin(), checksum.end(), std::begin(h.checksum));

  // Made under another name and linked into place, so that nobody ever opens a half-made machine.
  const std::uint64_t bytes =
      options.section ? (layout.total + kSectionAlignment - 1) & ~(kSectionAlignment - 1) : layout.total;
  const std::string temporary = path + ".new." + std::to_string(getpid());
  {
    const UniqueFd fd(::open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (fd.get() < 0) {
      error = failure("cannot create", path, errno);
      return nullptr;
    }
    const bool written =
        ftruncate(fd.get(), static_cast<off_t>(bytes)) == 0 &&
        (!options.section || fill(fd.get(), layout.epc, bytes)) &&
        pwrite(fd.get(), &h, sizeof(h), 0) == static_cast<ssize_t>(sizeof(h)) &&
        pwrite(fd.get(), &control, sizeof(control), sgx::kPageSize) == static_cast<ssize_t>(sizeof(control));
    const bool linked = written && link(temporary.c_str(), path.c_str()) == 0;
    if (!linked) error = failure("cannot create", path, errno);
    unlink(temporary.c_str());
    if (!linked) return nullptr;
  }
  return open(path, {}, error);
}

std::unique_ptr<Machine> Machine::open(const std::string& path, const OpenOptions& options, std::string& error) {
  std::unique_ptr<Machine> m(new Machine);
  m->path_ = path;
  m->fd_ = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (m->fd_ < 0) {
    error = failure("cannot open machine", path, errno) + "; make one with `softsgx create`";
    return nullptr;
  }
  if (!m->map(options, error)) return nullptr;
  return m;
}

// Why `h` is not the header of a machine, or null.
const char* Machine::header_problem(const Header& h) noexcept {
  if (std::memcmp(h.magic, kMachineMagic, sizeof(h.magic)) != 0) return "not a machine file (bad magic)";
  if (h.version != kMachineVersion) return "made by another version of softsgx (unknown file version)";
  const Digest checksum = sha256(&h, offsetof(Header, checksum));
  if (!std::equal(checksum.begin(), checksum.end(), std::begin(h.checksum), std::end(h.checksum)))
    return "corrupt machine file (bad header checksum)";
  const Layout layout = Layout::of(h.epc_pages);
  if (h.header_bytes != sizeof(Header) || h.epc_pages == 0 || h.epc_pages >= kNotEpc ||
      h.bitmap_offset != layout.bitmap || h.epcm_offset != layout.epcm || h.epc_offset != layout.epc ||
      h.total_bytes != layout.total) {
    return "corrupt machine file (impossible sizes)";
  }
  return sound_xfrm(h.xfrm_allowed) ? nullptr : "corrupt machine file (impossible XFRM)";
}

bool Machine::map(const OpenOptions& options, std::string& error) {
  const auto refuse = [&](const std::string& why) {
    error = "cannot use " + path_ + ": " + why + "; make a machine with `softsgx create`";
    return false;
  };
  struct stat st {};
  if (fstat(fd_, &st) != 0) return refuse(std::strerror(errno));
  // A device (a guest's /dev/mem) has no size and may not be read(), so even the header is looked at through a mapping.
  const bool sized = S_ISREG(st.st_mode);
  const auto available = sized ? static_cast<std::uint64_t>(st.st_size) : ~std::uint64_t{0};
  if (available < options.file_offset || available - options.file_offset < sgx::kPageSize)
    return refuse("the file is too short");
  const auto offset = static_cast<off_t>(options.file_offset);
  void* first = mmap(nullptr, sgx::kPageSize, PROT_READ, MAP_SHARED, fd_, offset);
  if (first == MAP_FAILED) return refuse(std::strerror(errno));
  Header h;
  std::memcpy(&h, first, sizeof(h));
  munmap(first, sgx::kPageSize);
  if (const char* problem = header_problem(h)) return refuse(problem);
  if (available - options.file_offset < h.total_bytes) return refuse("the file is shorter than its header says");
  const auto pages = static_cast<EpcIndex>(h.epc_pages);
  if (options.first >= pages || (options.count != kNotEpc && options.count > pages - options.first)) {
    return refuse("the section asked for is not within its EPC");
  }
  void* all = mmap(nullptr, h.epc_offset, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd_, offset);
  if (all == MAP_FAILED) return refuse(std::strerror(errno));
  map_ = static_cast<std::byte*>(all);
  map_bytes_ = h.epc_offset;
  base_offset_ = options.file_offset;
  epc_offset_ = base_offset_ + h.epc_offset;
  header_ = reinterpret_cast<const Header*>(map_);
  control_ = reinterpret_cast<Control*>(map_ + sgx::kPageSize);
  bitmap_ = reinterpret_cast<std::uint64_t*>(map_ + h.bitmap_offset);
  epcm_ = reinterpret_cast<EpcmEntry*>(map_ + h.epcm_offset);
  epc_pages_ = pages;
  if (!reserve_epc()) return refuse(std::strerror(errno));
  first_ = options.first;
  count_ = options.count == kNotEpc ? pages - options.first : options.count;
  return true;
}

bool Machine::reserve_epc() {
  constexpr std::size_t kPart = std::size_t{kPartPages} << sgx::kPageShift;
  reserved_bytes_ = (std::size_t{epc_pages_} << sgx::kPageShift) + kPart;
  void* all = mmap(nullptr, reserved_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (all == MAP_FAILED) return false;
  reserved_ = static_cast<std::byte*>(all);
  epc_ = reserved_ + (kPart - reinterpret_cast<std::uintptr_t>(reserved_) % kPart) % kPart;
  parts_ = std::make_unique<std::atomic<bool>[]>((std::size_t{epc_pages_} + kPartPages - 1) / kPartPages);
  return true;
}

// Two threads may do this at once: the second puts the same pages in the first one's place.
void Machine::map_part(EpcIndex part) const noexcept {
  const EpcIndex first = part * kPartPages;
  const std::uint64_t bytes = std::uint64_t{std::min(kPartPages, epc_pages_ - first)} << sgx::kPageShift;
  std::byte* const at = epc_ + (std::size_t{first} << sgx::kPageShift);
  if (raw::call(SYS_mmap, raw::arg(at), bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED,
                static_cast<std::uint64_t>(fd_), file_offset(first)) != static_cast<long>(raw::arg(at))) {
    constexpr std::string_view kLine = "softsgx: the kernel maps no more EPC; raise vm.max_map_count or add memory\n";
    (void)raw::call(SYS_write, STDERR_FILENO, raw::arg(kLine.data()), kLine.size());
    std::abort();
  }
  parts_[part].store(true, std::memory_order_release);
}

// Page `first` and those behind it.
std::byte* Machine::run(EpcIndex first, EpcIndex count) const noexcept {
  for (EpcIndex i = first; i < first + count; i = i / kPartPages * kPartPages + kPartPages) (void)page(i);
  return page(first);
}

Machine::~Machine() {
  if (map_ != nullptr) munmap(map_, map_bytes_);
  if (reserved_ != nullptr) munmap(reserved_, reserved_bytes_);
  if (fd_ >= 0) close(fd_);
}

const Fuses& Machine::fuses() const noexcept {
  return header_->fuses;
}
const std::array<std::uint8_t, 32>& Machine::report_keyid() const noexcept {
  return control_->report_keyid;
}
const std::array<std::uint8_t, 16>& Machine::cpusvn() const noexcept {
  return header_->cpusvn;
}
std::uint64_t Machine::xfrm_allowed() const noexcept {
  return header_->xfrm_allowed;
}

bool Machine::is_section() const noexcept {
  return (header_->flags & kSection) != 0;
}
std::uint64_t Machine::generation() const noexcept {
  return std::atomic_ref(control_->generation).load(std::memory_order_acquire);
}

const char* Machine::unsound() const noexcept {
  Header h;
  std::memcpy(&h, header_, sizeof(h));
  if (const char* problem = header_problem(h)) return problem;
  return h.epc_pages == epc_pages_ ? nullptr : "an EPC of another size";
}

std::uint64_t Machine::file_offset(EpcIndex i) const noexcept {
  return epc_offset_ + (std::uint64_t{i} << sgx::kPageShift);
}

sgx::Secs& Machine::secs(EpcIndex i) const noexcept {
  return *reinterpret_cast<sgx::Secs*>(page(i));
}
sgx::Tcs& Machine::tcs(EpcIndex i) const noexcept {
  return *reinterpret_cast<sgx::Tcs*>(page(i));
}
SecsState& Machine::secs_state(EpcIndex i) const noexcept {
  return *reinterpret_cast<SecsState*>(page(i) + kSecsStateOffset);
}

int Machine::page_rights(EpcIndex i) const noexcept {
  const std::uint64_t s = epcm_[i].state.load(std::memory_order_acquire);
  constexpr std::uint64_t kUnusable = epcm::kPending | epcm::kModified | epcm::kBlocked;
  if ((s & epcm::kValid) == 0 || (s & kUnusable) != 0 || epcm::type(s) != sgx::PageType::kReg) return PROT_NONE;
  return ((s & epcm::kR) != 0 ? PROT_READ : 0) | ((s & epcm::kW) != 0 ? PROT_WRITE : 0) |
         ((s & epcm::kX) != 0 ? PROT_EXEC : 0);
}

unsigned Machine::untracked_processors(EpcIndex secs) const noexcept {
  return static_cast<unsigned>(epcm_[secs].active.load() >> 16 & 0xffff);
}

unsigned Machine::active_processors(EpcIndex secs) const noexcept {
  const std::uint64_t a = epcm_[secs].active.load();
  return static_cast<unsigned>((a & 0xffff) + (a >> 16 & 0xffff));
}

void Machine::prefault(EpcIndex first, EpcIndex count) const noexcept {
#ifdef MADV_POPULATE_WRITE
  (void)madvise(run(first, count), std::size_t{count} << sgx::kPageShift, MADV_POPULATE_WRITE);
#else
  (void)madvise(run(first, count), std::size_t{count} << sgx::kPageShift, MADV_WILLNEED);
#endif
}

}  // namespace softsgx
