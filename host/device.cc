#include "host/device.h"

#include <asm/sgx.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>
#include <utility>

#include "migration/abi.h"

namespace sealift::host {
namespace {

std::string errno_text() {
  return std::strerror(errno);
}  // NOLINT(concurrency-mt-unsafe): glibc's is thread-safe

std::uint64_t arena_size_of(const EnclaveConfig& c) {
  const std::uint64_t size = abi::arena_bytes(c.tcs_count, c.slot_bytes);
  return (size + sgx::kPageSize - 1) & ~(sgx::kPageSize - 1);
}

// A page-aligned stretch of zeroes to add zero pages from.
std::span<const std::uint8_t> zeroes() {
  constexpr std::size_t kBytes = 2u << 20;
  static void* const kArea = mmap(nullptr, kBytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (kArea == MAP_FAILED) throw Error(Errc::kEpcLost, "out of memory while building the enclave");
  return {static_cast<const std::uint8_t*>(kArea), kBytes};
}

int prot_of(std::uint64_t secinfo_flags) {
  if ((secinfo_flags & sgx::secinfo::kTypeMask) == sgx::secinfo::type(sgx::PageType::kTcs)) {
    return PROT_READ | PROT_WRITE;
  }
  int prot = 0;
  if ((secinfo_flags & sgx::secinfo::kR) != 0) prot |= PROT_READ;
  if ((secinfo_flags & sgx::secinfo::kW) != 0) prot |= PROT_WRITE;
  if ((secinfo_flags & sgx::secinfo::kX) != 0) prot |= PROT_EXEC;
  return prot;
}

}  // namespace

Device::Device(const Image& image, std::optional<std::uint64_t> base)
    : size_(image.config().elrange_size), arena_size_(arena_size_of(image.config())) {
  open_device();
  try {
    reserve(base);
    build(image);
  } catch (...) {
    if (base_ != 0) munmap(reinterpret_cast<void*>(base_), size_ + arena_size_);
    close(fd_);
    throw;
  }
}

void Device::open_device() {
  fd_ = open("/dev/sgx_enclave", O_RDWR | O_CLOEXEC);
  if (fd_ < 0) {
    throw Error(Errc::kEpcLost, "/dev/sgx_enclave: " + errno_text() +
                                    ": this machine has no SGX; on the software machine start with `softsgx run`");
  }
}

void Device::build(const Image& image) {
  create(image);
  image.for_each_run([&](const PageRun& run) { add(run); });
  init(image);
  map(image);
}

void Device::rebuild(const Image& image) {
  image.check_file();
  // In one step, so that nobody else's mmap can come in between. The driver lets the old enclave go with its last
  // mapping and its descriptor.
  if (mmap(reinterpret_cast<void*>(base_), size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
           -1, 0) == MAP_FAILED) {
    throw Error(Errc::kWrongBase, "cannot clear the enclave's address range: " + errno_text());
  }
  if (fd_ >= 0) close(std::exchange(fd_, -1));
  open_device();
  build(image);
}

void Device::empty_control_slot() const {
  // It cannot fail on memory that this mapped; if it did, memory would be kept.
  madvise(arena(), abi::kControlSlotBytes, MADV_DONTNEED);
}

Device::~Device() {
  munmap(reinterpret_cast<void*>(base_), size_ + arena_size_);
  if (fd_ >= 0) close(fd_);
}

// ELRANGE must be aligned to its size, and the arena lies right behind it.
void Device::reserve(std::optional<std::uint64_t> base) {
  const auto claim = [&](std::uint64_t at) {
    void* p = mmap(reinterpret_cast<void*>(at), size_ + arena_size_, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (p == MAP_FAILED) return false;
    base_ = at;
    return true;
  };
  if (base) {
    if (*base % size_ != 0 || !claim(*base)) {
      throw Error(Errc::kWrongBase, "the enclave must be rebuilt at its old address, which this process already uses");
    }
  } else {
    // Far from where Linux puts programs, stacks and mmap areas, so that the same address is free on the target, too.
    constexpr std::uint64_t kLow = std::uint64_t{0x100000000000}, kHigh = std::uint64_t{0x500000000000};
    std::random_device random;
    std::uniform_int_distribution<std::uint64_t> slots(kLow / size_, kHigh / size_ - 2);
    bool claimed = false;
    for (int tries = 0; tries < 64 && !claimed; ++tries) claimed = claim(slots(random) * size_);
    if (!claimed) throw Error(Errc::kWrongBase, "no free address range for the enclave");
  }
  if (mmap(arena(), arena_size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
      MAP_FAILED) {
    throw Error(Errc::kWrongBase, "out of memory for the enclave's arena");
  }
  // Little of it is used, here and there: a huge page would be zeros that every migration of this machine looks at. A
  // kernel without huge pages refuses, and has none to give.
  madvise(arena(), arena_size_, MADV_NOHUGEPAGE);
}

void Device::create(const Image& image) const {
  const EnclaveConfig& c = image.config();
  alignas(sgx::kPageSize) sgx::Secs secs{};
  secs.size = size_;
  secs.baseaddr = base_;
  secs.ssaframesize = c.ssa_frame_pages;
  secs.miscselect = image.sigstruct().miscselect;
  secs.attributes = image.sigstruct().attributes;
  // The driver looks for the ELRANGE reservation among the device's mappings.
  if (mmap(reinterpret_cast<void*>(base_), size_, PROT_NONE, MAP_SHARED | MAP_FIXED, fd_, 0) == MAP_FAILED) {
    throw Error(Errc::kWrongBase, "cannot map the enclave device: " + errno_text());
  }
  sgx_enclave_create request{reinterpret_cast<std::uint64_t>(&secs)};
  if (ioctl(fd_, SGX_IOC_ENCLAVE_CREATE, &request) != 0) {
    throw Error(Errc::kEpcLost, image.name() + ": the SGX driver refuses to create the enclave: " + errno_text() +
                                    (errno == EINVAL ? " (does this CPU support its XFRM?)" : ""));
  }
}

void Device::add(const PageRun& run) const {
  sgx::Secinfo secinfo{};
  secinfo.flags = run.secinfo_flags;
  const std::uint64_t total = run.count * sgx::kPageSize;
  for (std::uint64_t done = 0; done < total;) {
    const std::uint64_t chunk =
        run.data.empty() ? std::min<std::uint64_t>(total - done, zeroes().size()) : total - done;
    sgx_enclave_add_pages request{};
    request.src = run.data.empty() ? reinterpret_cast<std::uint64_t>(zeroes().data())
                                   : reinterpret_cast<std::uint64_t>(run.data.data()) + done;
    request.offset = run.offset + done;
    request.length = chunk;
    request.secinfo = reinterpret_cast<std::uint64_t>(&secinfo);
    request.flags = run.measure ? SGX_PAGE_MEASURE : 0;
    const int result = ioctl(fd_, SGX_IOC_ENCLAVE_ADD_PAGES, &request);
    done += request.count;
    if (result == 0 || errno == EINTR || errno == EAGAIN) continue;
    throw Error(Errc::kEpcLost, "the machine's EPC is too small for this enclave (" + std::to_string(size_ >> 20) +
                                    " MiB of ELRANGE): " + errno_text());
  }
}

void Device::init(const Image& image) const {
  alignas(sgx::kPageSize) std::uint8_t page[sgx::kPageSize] = {};
  std::memcpy(page, &image.sigstruct(), sizeof(sgx::Sigstruct));
  sgx_enclave_init request{reinterpret_cast<std::uint64_t>(page)};
  if (ioctl(fd_, SGX_IOC_ENCLAVE_INIT, &request) != 0) {
    throw Error(Errc::kWrongEnclave, image.name() + ": EINIT refused the enclave: " + errno_text() +
                                         ": was the file changed after it was signed, or while the enclave ran?");
  }
}

void Device::map(const Image& image) const {
  std::uint64_t begin = 0, end = 0;
  int rights = PROT_NONE;
  const auto flush = [&] {
    void* at = reinterpret_cast<void*>(base_ + begin);
    if (begin != end && mmap(at, end - begin, rights, MAP_SHARED | MAP_FIXED, fd_, 0) == MAP_FAILED) {
      throw Error(Errc::kEpcLost, "cannot map the enclave's pages: " + errno_text());
    }
  };
  // One mapping for neighbours of equal rights: each is a walk over the driver's tables.
  image.for_each_run([&](const PageRun& run) {
    const int prot = prot_of(run.secinfo_flags);
    if (run.offset != end || prot != rights) {
      flush();
      begin = end = run.offset;
      rights = prot;
    }
    end += run.count * sgx::kPageSize;
  });
  flush();
}

}  // namespace sealift::host
