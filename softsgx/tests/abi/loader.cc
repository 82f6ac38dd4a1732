#include "softsgx/tests/abi/loader.h"

#include <elf.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "softsgx/tests/abi/enclave/interface.h"
#include "softsgx/tests/abi/signer.h"

namespace third_party {
namespace {

constexpr std::uint64_t kPage = sgx::kPageSize;

const std::vector<char>& image() {
  static const std::vector<char> bytes = [] {
    const char* elsewhere = std::getenv("ABI_ENCLAVE");
    std::ifstream in(elsewhere ? elsewhere : ABI_ENCLAVE, std::ios::binary);
    return std::vector<char>(std::istreambuf_iterator<char>(in), {});
  }();
  return bytes;
}

std::uint64_t page_up(std::uint64_t v) {
  return (v + kPage - 1) & ~(kPage - 1);
}

// ADD_PAGES wants page-aligned sources.
struct alignas(4096) PageBuffer {
  std::uint8_t bytes[kPage] = {};
};

std::uint64_t secinfo_of(std::uint32_t segment_flags) {
  std::uint64_t f = sgx::secinfo::type(sgx::PageType::kReg);
  if (segment_flags & PF_R) f |= sgx::secinfo::kR;
  if (segment_flags & PF_W) f |= sgx::secinfo::kW;
  if (segment_flags & PF_X) f |= sgx::secinfo::kX;
  return f;
}

int prot_of(std::uint64_t secinfo) {
  return static_cast<int>(secinfo & 7);  // SECINFO's R, W, X are PROT_READ, PROT_WRITE, PROT_EXEC
}

constexpr std::uint64_t kRw = sgx::secinfo::type(sgx::PageType::kReg) | sgx::secinfo::kR | sgx::secinfo::kW;

}  // namespace

bool TestEnclave::fail(const char* step) {
  error_ = errno;
  failed_step_ = step;
  return false;
}

TestEnclave::TestEnclave(const EnclaveOptions& options) : options_(options) {
  fd_ = open("/dev/sgx_enclave", O_RDWR | O_CLOEXEC);
  if (fd_ < 0) {
    fail("open");
    return;
  }
  if (!create()) return;
  if (options_.map_before_add && map(0, options_.size, PROT_NONE) != 0) {
    fail("map before add");
    return;
  }
  if (!load_image() || !add_threads()) return;
  if (options_.provision) {
    const int p = open("/dev/sgx_provision", O_RDONLY);
    sgx_enclave_provision arg{static_cast<__u64>(p)};
    const int r = ioctl(fd_, SGX_IOC_ENCLAVE_PROVISION, &arg);
    close(p);
    if (r != 0) {
      fail("provision");
      return;
    }
  }
  if (options_.initialise) {
    if ((errno = init()) != 0) {
      fail("init");
      return;
    }
  }
  map_all();
}

TestEnclave::~TestEnclave() {
  unmap();
  close_fd();
}

void TestEnclave::unmap() {
  if (reserved_bytes_) munmap(reinterpret_cast<void*>(reserved_at_), reserved_bytes_);
  reserved_bytes_ = 0;
}

void TestEnclave::close_fd() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

void TestEnclave::measure(const void* record, std::size_t bytes) {
  const auto* p = static_cast<const std::uint8_t*>(record);
  measured_.insert(measured_.end(), p, p + bytes);
}

bool TestEnclave::create() {
  if (options_.base) {
    base_ = reserved_at_ = options_.base;
    reserved_bytes_ = options_.size;
    if (mmap(reinterpret_cast<void*>(base_), options_.size, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) {
      return fail("reserve");
    }
  } else {
    // ELRANGE is naturally aligned.
    reserved_bytes_ = options_.size * 2;
    void* at = mmap(nullptr, reserved_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return fail("reserve");
    reserved_at_ = reinterpret_cast<std::uint64_t>(at);
    base_ = (reserved_at_ + options_.size - 1) & ~(options_.size - 1);
  }
  sgx::Secs secs{};
  secs.size = options_.size;
  secs.baseaddr = base_;
  secs.ssaframesize = 1;
  secs.miscselect = options_.miscselect;
  secs.attributes = {options_.attributes, options_.xfrm};
  sgx_enclave_create arg{reinterpret_cast<__u64>(&secs)};
  if (ioctl(fd_, SGX_IOC_ENCLAVE_CREATE, &arg) != 0) return fail("create");
  sgx::measure::EcreateRecord record;
  record.ssaframesize = 1;
  record.size = options_.size;
  measure(&record, sizeof record);
  return true;
}

int TestEnclave::add(std::uint64_t offset, const void* source, std::uint64_t length, std::uint64_t flags, bool measured,
                     std::uint64_t* count) {
  sgx::Secinfo secinfo{};
  secinfo.flags = flags;
  sgx_enclave_add_pages arg{.src = reinterpret_cast<__u64>(source),
                            .offset = offset,
                            .length = length,
                            .secinfo = reinterpret_cast<__u64>(&secinfo),
                            .flags = measured ? static_cast<__u64>(SGX_PAGE_MEASURE) : 0u,
                            .count = 0};
  const int r = ioctl(fd_, SGX_IOC_ENCLAVE_ADD_PAGES, &arg) == 0 ? 0 : errno;
  if (count) *count = arg.count;
  for (std::uint64_t at = 0; at < arg.count; at += kPage) {
    sgx::measure::EaddRecord eadd;
    eadd.offset = offset + at;
    std::memcpy(eadd.secinfo, &secinfo, sizeof eadd.secinfo);
    measure(&eadd, sizeof eadd);
    for (std::uint64_t chunk = 0; measured && chunk < kPage; chunk += sgx::kExtendChunk) {
      sgx::measure::EextendRecord extend;
      extend.offset = offset + at + chunk;
      measure(&extend, sizeof extend);
      measure(static_cast<const std::uint8_t*>(source) + at + chunk, sgx::kExtendChunk);
    }
  }
  return r;
}

bool TestEnclave::load_image() {
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(image().data());
  const auto* phdr = reinterpret_cast<const Elf64_Phdr*>(image().data() + header->e_phoff);
  entry_ = header->e_entry;
  for (int i = 0; i < header->e_phnum; ++i) {
    if (phdr[i].p_type != PT_LOAD) continue;
    const std::uint64_t bytes = page_up(phdr[i].p_memsz);
    for (std::uint64_t at = 0; at < bytes; at += kPage) {
      PageBuffer page;
      if (at < phdr[i].p_filesz) {
        std::memcpy(page.bytes, image().data() + phdr[i].p_offset + at, std::min(kPage, phdr[i].p_filesz - at));
      }
      if ((errno = add(phdr[i].p_vaddr + at, &page, kPage, secinfo_of(phdr[i].p_flags), true)) != 0) {
        return fail("add image");
      }
    }
    segments_.push_back({phdr[i].p_vaddr, bytes, prot_of(secinfo_of(phdr[i].p_flags))});
    threads_offset_ = phdr[i].p_vaddr + bytes;
  }
  return true;
}

std::uint64_t TestEnclave::thread_block(unsigned thread) const {
  return base_ + threads_offset_ + thread * kThreadPages * kPage;
}

std::uint64_t TestEnclave::tcs(unsigned thread) const {
  return thread_block(thread) + (kBlockPages + kStackPages) * kPage;
}

bool TestEnclave::add_threads() {
  for (unsigned t = 0; t < options_.threads; ++t) {
    const std::uint64_t block = thread_block(t), tcs_at = tcs(t), ssa = tcs_at + kPage;
    PageBuffer page;
    ThreadBlock tb{};
    tb.stack0 = block + (kBlockPages + kStackPages) * kPage;
    tb.stack1 = block + (kBlockPages + 2) * kPage;
    tb.ssa = ssa;
    tb.ssa_frame_bytes = kPage;
    std::memcpy(page.bytes, &tb, sizeof tb);
    // The block holds addresses, so it is not measured.
    if ((errno = add(block - base_, &page, kPage, kRw, false)) != 0) return fail("add thread block");
    static PageBuffer zero[kStackPages];
    if ((errno = add(block - base_ + kPage, zero, sizeof zero, kRw, false)) != 0) return fail("add stack");
    PageBuffer tcs_page;
    auto& tcs = *reinterpret_cast<sgx::Tcs*>(tcs_page.bytes);
    tcs.ossa = ssa - base_;
    tcs.nssa = kSsaFrames;
    tcs.oentry = entry_;
    tcs.ofsbase = tcs.ogsbase = block - base_;
    tcs.fslimit = tcs.gslimit = 0xffffffff;
    if ((errno = add(tcs_at - base_, &tcs_page, kPage, sgx::secinfo::type(sgx::PageType::kTcs), true)) != 0) {
      return fail("add TCS");
    }
    if ((errno = add(ssa - base_, zero, kSsaFrames * kPage, kRw, false)) != 0) return fail("add SSA");
  }
  segments_.push_back({threads_offset_, options_.threads * kThreadPages * kPage, PROT_READ | PROT_WRITE});
  heap_offset_ = threads_offset_ + options_.threads * kThreadPages * kPage;
  end_offset_ = heap_offset_;
  if (options_.heap_pages == 0) return true;
  const std::uint64_t bytes = options_.heap_pages * kPage;
  void* zeroes = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  errno = add(heap_offset_, zeroes, bytes, kRw, false);
  const bool ok = errno == 0 || fail("add heap");
  munmap(zeroes, bytes);
  segments_.push_back({heap_offset_, bytes, PROT_READ | PROT_WRITE});
  end_offset_ += bytes;
  return ok;
}

int TestEnclave::map(std::uint64_t offset, std::uint64_t length, int prot) {
  void* at = mmap(reinterpret_cast<void*>(base_ + offset), length, prot, MAP_SHARED | MAP_FIXED, fd_, 0);
  return at == MAP_FAILED ? errno : 0;
}

bool TestEnclave::map_all() {
  for (const Segment& s : segments_) {
    if (options_.map_before_add) {
      if (mprotect(reinterpret_cast<void*>(base_ + s.offset), s.bytes, s.prot) != 0) return fail("mprotect");
    } else if ((errno = map(s.offset, s.bytes, s.prot)) != 0) {
      return fail("map");
    }
  }
  return true;
}

int TestEnclave::init() {
  SignRequest r;
  SHA256(measured_.data(), measured_.size(), r.enclavehash.bytes);
  r.attributes = {options_.attributes, options_.xfrm};
  r.miscselect = options_.miscselect;
  sgx::Sigstruct s = sign_sigstruct(r);
  if (options_.corrupt_signature) s.signature[17] ^= 1;
  sgx_enclave_init arg{reinterpret_cast<__u64>(&s)};
  return ioctl(fd_, SGX_IOC_ENCLAVE_INIT, &arg) == 0 ? 0 : errno;
}

std::uint64_t TestEnclave::address_of(const char* symbol) const {
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(image().data());
  const auto* sections = reinterpret_cast<const Elf64_Shdr*>(image().data() + header->e_shoff);
  for (int i = 0; i < header->e_shnum; ++i) {
    if (sections[i].sh_type != SHT_SYMTAB) continue;
    const char* names = image().data() + sections[sections[i].sh_link].sh_offset;
    const auto* symbols = reinterpret_cast<const Elf64_Sym*>(image().data() + sections[i].sh_offset);
    for (std::uint64_t n = 0; n < sections[i].sh_size / sizeof(Elf64_Sym); ++n) {
      if (!std::strcmp(names + symbols[n].st_name, symbol)) return base_ + symbols[n].st_value;
    }
  }
  return 0;
}

}  // namespace third_party
