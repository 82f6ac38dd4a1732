#include "host/image.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "migration/abi.h"

namespace sealift::host {
namespace {

constexpr std::uint64_t align_down(std::uint64_t v) {
  return v & ~(sgx::kPageSize - 1);
}
constexpr std::uint64_t align_up(std::uint64_t v) {
  return align_down(v + sgx::kPageSize - 1);
}
constexpr std::uint64_t kReg = sgx::secinfo::type(sgx::PageType::kReg);

std::uint64_t rights(std::uint32_t p_flags) {
  std::uint64_t f = kReg;
  if ((p_flags & PF_R) != 0) f |= sgx::secinfo::kR;
  if ((p_flags & PF_W) != 0) f |= sgx::secinfo::kW | sgx::secinfo::kR;
  if ((p_flags & PF_X) != 0) f |= sgx::secinfo::kX | sgx::secinfo::kR;
  return f;
}

// What of the run lies between two offsets, which are multiples of a page but for the largest.
void visit_part(const PageRun& run, std::uint64_t from, std::uint64_t to,
                const std::function<void(const PageRun&)>& visit) {
  const std::uint64_t begin = std::max(run.offset, from);
  const std::uint64_t end = std::min(run.offset + run.count * sgx::kPageSize, to);
  if (begin >= end) return;
  const auto data = run.data.empty() ? run.data : run.data.subspan(begin - run.offset, end - begin);
  visit({begin, (end - begin) / sgx::kPageSize, run.secinfo_flags, run.measure, data});
}

// A page that an image has only a part of.
struct alignas(sgx::kPageSize) Page {
  std::array<std::uint8_t, sgx::kPageSize> bytes{};
};

[[noreturn]] void unreadable(const std::string& path) {
  throw Error(Errc::kWrongEnclave, path + ": cannot read the enclave image: " + std::strerror(errno) +  // NOLINT
                                       ": check the path");
}

}  // namespace

// Page-aligned, up to the end of the last page.
class Image::Storage {
 public:
  explicit Storage(std::size_t size) : bytes_(map(size, PROT_READ | PROT_WRITE, -1), size) {
    if (bytes_.data() == nullptr) throw Error(Errc::kWrongEnclave, "out of memory for an enclave image");
  }
  explicit Storage(const std::string& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0) unreadable(path);
    const std::size_t size = size_of_file();
    bytes_ = {map(size, PROT_READ, fd_), size};
    if (bytes_.data() != nullptr) return;
    const int error = errno;
    ::close(fd_);
    errno = error;
    unreadable(path);
  }
  ~Storage() {
    ::munmap(bytes_.data(), room(bytes_.size()));
    if (fd_ >= 0) ::close(fd_);
  }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  [[nodiscard]] std::span<std::uint8_t> bytes() const noexcept { return bytes_; }
  [[nodiscard]] bool whole() const { return fd_ < 0 || size_of_file() >= bytes_.size(); }

 private:
  static std::size_t room(std::size_t size) { return std::max<std::size_t>(align_up(size), sgx::kPageSize); }
  // nullptr: errno says why.
  static std::uint8_t* map(std::size_t size, int rights, int fd) {
    void* at = ::mmap(nullptr, room(size), rights, MAP_PRIVATE | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
    return at == MAP_FAILED ? nullptr : static_cast<std::uint8_t*>(at);
  }
  // 0 if nobody can tell.
  [[nodiscard]] std::size_t size_of_file() const {
    struct stat st {};
    return ::fstat(fd_, &st) == 0 ? static_cast<std::size_t>(st.st_size) : 0;
  }

  int fd_ = -1;
  std::span<std::uint8_t> bytes_;
};

Image Image::load(const std::string& path) {
  Image image(std::make_shared<Storage>(path), path);
  image.check_elf();
  image.loaded_ = std::make_shared<const Loaded>(Loaded{image.config_in_file(), image.sigstruct_in_file()});
  image.check_config();
  return image;
}

Image::Image(const std::vector<std::uint8_t>& bytes, std::string name)
    : Image(std::make_shared<Storage>(bytes.size()), std::move(name)) {
  std::copy(bytes.begin(), bytes.end(), bytes_.begin());
  check_elf();
}

Image::Image(std::shared_ptr<Storage> storage, std::string name)
    : storage_(std::move(storage)), bytes_(storage_->bytes()), name_(std::move(name)) {}

void Image::check_file() const {
  if (storage_->whole()) return;
  throw Error(Errc::kWrongEnclave, name_ +
                                       ": the enclave image was cut short while its enclave ran: put it back as "
                                       "it was, into the same file");
}

void Image::corrupt(const std::string& why) const {
  throw Error(Errc::kWrongEnclave, name_ + ": not a usable enclave image (" + why + "): build and sign it again");
}

void Image::bound(std::uint64_t offset, std::uint64_t size, const char* what) const {
  if (offset > bytes_.size() || size > bytes_.size() - offset) corrupt(std::string(what) + " outside the file");
}

std::span<const std::uint8_t> Image::range(std::uint64_t offset, std::uint64_t size, const char* what) const {
  bound(offset, size, what);
  return std::span(bytes_).subspan(offset, size);
}

const Elf64_Ehdr& Image::header() const {
  return *reinterpret_cast<const Elf64_Ehdr*>(bytes_.data());
}

std::span<const Elf64_Phdr> Image::segments() const {
  const auto r = range(header().e_phoff, std::uint64_t{header().e_phnum} * sizeof(Elf64_Phdr), "program headers");
  return {reinterpret_cast<const Elf64_Phdr*>(r.data()), header().e_phnum};
}

std::span<const Elf64_Shdr> Image::sections() const {
  const auto r = range(header().e_shoff, std::uint64_t{header().e_shnum} * sizeof(Elf64_Shdr), "section headers");
  return {reinterpret_cast<const Elf64_Shdr*>(r.data()), header().e_shnum};
}

void Image::check_elf() const {
  if (bytes_.size() < sizeof(Elf64_Ehdr) || std::memcmp(bytes_.data(), ELFMAG, SELFMAG) != 0) corrupt("no ELF header");
  const Elf64_Ehdr& h = header();
  if (h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_machine != EM_X86_64 || h.e_type != ET_DYN) {
    corrupt("not a static-PIE for x86-64");
  }
  if (h.e_phentsize != sizeof(Elf64_Phdr) || h.e_shentsize != sizeof(Elf64_Shdr) || h.e_phoff % 8 != 0 ||
      h.e_shoff % 8 != 0) {
    corrupt("odd header sizes");
  }
  std::uint64_t end = 0;
  for (const Elf64_Phdr& p : segments()) {
    if (p.p_type != PT_LOAD) continue;
    bound(p.p_offset, p.p_filesz, "segment");
    if (p.p_memsz < p.p_filesz || p.p_memsz > (std::uint64_t{1} << 34) || p.p_vaddr > (std::uint64_t{1} << 34)) {
      corrupt("segment sizes");
    }
    if (align_down(p.p_vaddr) < end) corrupt("overlapping segments");
    if ((p.p_offset - p.p_vaddr) % sgx::kPageSize != 0) corrupt("segment alignment");
    if ((p.p_flags & PF_W) != 0 && (p.p_flags & PF_X) != 0) corrupt("writable and executable segment");
    end = align_up(p.p_vaddr + p.p_memsz);
  }
  if (end == 0) corrupt("no segments");
  bound(h.e_shoff, std::uint64_t{h.e_shnum} * sizeof(Elf64_Shdr), "section headers");
}

std::uint64_t Image::image_size() const {
  std::uint64_t end = 0;
  for (const Elf64_Phdr& p : segments()) {
    if (p.p_type == PT_LOAD) end = std::max(end, align_up(p.p_vaddr + p.p_memsz));
  }
  return end;
}

const Elf64_Shdr& Image::section(const std::string& name) const {
  const auto all = sections();
  if (header().e_shstrndx >= all.size()) corrupt("section names");
  const Elf64_Shdr& names = all[header().e_shstrndx];
  const auto strings = range(names.sh_offset, names.sh_size, "section names");
  for (const Elf64_Shdr& s : all) {
    if (s.sh_name >= strings.size()) continue;
    const auto* begin = reinterpret_cast<const char*>(strings.data()) + s.sh_name;
    const std::size_t limit = strings.size() - s.sh_name;
    if (std::string(begin, strnlen(begin, limit)) == name) return s;
  }
  corrupt("no section " + name);
}

const EnclaveConfig& Image::config() const {
  return loaded_ ? loaded_->config : config_in_file();
}

const EnclaveConfig& Image::config_in_file() const {
  const Elf64_Shdr& s = section(".sealift_config");
  if (s.sh_size < sizeof(EnclaveConfig) || s.sh_offset % alignof(EnclaveConfig) != 0) corrupt(".sealift_config");
  return *reinterpret_cast<const EnclaveConfig*>(range(s.sh_offset, sizeof(EnclaveConfig), ".sealift_config").data());
}

EnclaveConfig& Image::config() {
  return const_cast<EnclaveConfig&>(config_in_file());
}

const sgx::Sigstruct& Image::sigstruct() const {
  return loaded_ ? loaded_->sigstruct : sigstruct_in_file();
}

const sgx::Sigstruct& Image::sigstruct_in_file() const {
  const Elf64_Shdr& s = section(".sealift_sigstruct");
  if (s.sh_size < sizeof(sgx::Sigstruct) || s.sh_offset % 8 != 0) corrupt(".sealift_sigstruct");
  return *reinterpret_cast<const sgx::Sigstruct*>(range(s.sh_offset, sizeof(sgx::Sigstruct), "SIGSTRUCT").data());
}

sgx::Sigstruct& Image::sigstruct() {
  return const_cast<sgx::Sigstruct&>(sigstruct_in_file());
}

std::uint64_t Image::symbol(const std::string& name) const {
  const Elf64_Shdr& symtab = section(".symtab");
  const auto raw = range(symtab.sh_offset, symtab.sh_size, "symbols");
  const Elf64_Shdr& strtab = section(".strtab");
  const auto strings = range(strtab.sh_offset, strtab.sh_size, "symbol names");
  const std::span all{reinterpret_cast<const Elf64_Sym*>(raw.data()), raw.size() / sizeof(Elf64_Sym)};
  for (const Elf64_Sym& s : all) {
    if (s.st_name == 0 || s.st_name >= strings.size() || s.st_shndx == SHN_UNDEF) continue;
    const auto* text = reinterpret_cast<const char*>(strings.data()) + s.st_name;
    if (std::string(text, strnlen(text, strings.size() - s.st_name)) == name) return s.st_value;
  }
  corrupt("no symbol " + name);
}

std::vector<Image::Function> Image::functions() const {
  const Elf64_Shdr& symtab = section(".symtab");
  const auto raw = range(symtab.sh_offset, symtab.sh_size, "symbols");
  std::vector<Function> all;
  for (std::size_t i = 0; i < raw.size() / sizeof(Elf64_Sym); ++i) {
    const Elf64_Sym& s = reinterpret_cast<const Elf64_Sym*>(raw.data())[i];
    const unsigned type = ELF64_ST_TYPE(s.st_info);
    if ((type == STT_FUNC || type == STT_GNU_IFUNC) && s.st_size != 0 && s.st_shndx != SHN_UNDEF) {
      all.push_back({s.st_value, s.st_size});
    }
  }
  return all;
}

std::vector<Image::Section> Image::executable_sections() {
  std::vector<Section> all;
  for (const Elf64_Shdr& s : sections()) {
    if ((s.sh_flags & SHF_EXECINSTR) == 0 || s.sh_type != SHT_PROGBITS) continue;
    bound(s.sh_offset, s.sh_size, "code");
    all.push_back({s.sh_addr, s.sh_size, std::span(bytes_).subspan(s.sh_offset, s.sh_size)});
  }
  return all;
}

void Image::check_config() const {
  const EnclaveConfig& c = config();
  if (c.magic != kConfigMagic) corrupt("not signed yet");
  if (c.version != kConfigVersion) corrupt("configuration of another version");
  const bool threads = c.tcs_count >= abi::kFirstEcallTcs && c.tcs_count <= abi::kMaxTcs &&
                       c.ecall_threads <= c.tcs_count - abi::kFirstEcallTcs && c.ssa_frame_pages == 1;
  const std::uint64_t stride = thread_stride(c.stack_size, c.ssa_frame_pages);
  const bool blocks = (c.thread_block_offset | c.thread_block_stride) % sgx::kPageSize == 0 &&
                      c.thread_block_offset <= c.image_size &&
                      c.thread_block_stride <= (c.image_size - c.thread_block_offset) / abi::kMaxTcs;
  const bool aligned =
      (c.heap_offset | c.heap_size | c.threads_offset | c.stack_size | c.slot_bytes) % sgx::kPageSize == 0;
  const bool order = c.image_size == image_size() && c.heap_offset >= c.image_size &&
                     c.heap_size <= (std::uint64_t{4} << 30) && c.threads_offset >= c.heap_offset + c.heap_size &&
                     c.thread_stride == stride && c.stack_size <= (std::uint64_t{64} << 20) &&
                     c.slot_bytes >= sgx::kPageSize && c.slot_bytes <= (std::uint64_t{64} << 20);
  const bool fits = (c.elrange_size & (c.elrange_size - 1)) == 0 && c.elrange_size <= (std::uint64_t{1} << 36) &&
                    thread_base(c, c.tcs_count) <= c.elrange_size;
  if (!threads || !blocks || !aligned || !order || !fits || c.cpuid_count > kMaxCpuid ||
      c.cpuid_site_count > kMaxCpuidSites) {
    corrupt("inconsistent configuration");
  }
}

void Image::visit_segments(const std::function<void(const PageRun&)>& visit) const {
  for (const Elf64_Phdr& p : segments()) {
    if (p.p_type != PT_LOAD) continue;
    const std::uint64_t file_end = p.p_vaddr + p.p_filesz;
    const std::uint64_t end = align_up(p.p_vaddr + p.p_memsz), data_end = align_up(file_end);
    const std::uint64_t flags = rights(p.p_flags);
    const auto partial = [&](std::uint64_t at) {
      Page page;
      const std::uint64_t from = std::max(at, p.p_vaddr), to = std::min(at + sgx::kPageSize, file_end);
      const auto part = bytes_.subspan(p.p_offset + (from - p.p_vaddr), to > from ? to - from : 0);
      std::copy(part.begin(), part.end(), page.bytes.begin() + static_cast<std::ptrdiff_t>(from - at));
      visit({at, 1, flags, true, page.bytes});
    };
    std::uint64_t at = align_down(p.p_vaddr);
    if (at < data_end && (at < p.p_vaddr || at + sgx::kPageSize > file_end)) {
      partial(at);
      at += sgx::kPageSize;
    }
    // Whole pages go out of the file's bytes as they are.
    if (const std::uint64_t whole_end = align_down(file_end); whole_end > at) {
      const auto whole = bytes_.subspan(p.p_offset + (at - p.p_vaddr), whole_end - at);
      visit({at, whole.size() / sgx::kPageSize, flags, true, whole});
      at = whole_end;
    }
    if (at < data_end) partial(at);
    if (end > data_end) visit({data_end, (end - data_end) / sgx::kPageSize, flags, true, {}});
  }
}

void Image::visit_threads(const std::function<void(const PageRun&)>& visit) const {
  const EnclaveConfig& c = config();
  const std::uint64_t rw = kReg | sgx::secinfo::kR | sgx::secinfo::kW;
  for (std::uint32_t i = 0; i < c.tcs_count; ++i) {
    // Threads made inside bring their own stacks; the control thread's is in the core area.
    const bool has_stack = i >= abi::kMainTcs && i < abi::kFirstEcallTcs + c.ecall_threads;
    if (has_stack) visit({stack_offset(c, i), c.stack_size / sgx::kPageSize, rw, false, {}});
    Page page;
    sgx::Tcs tcs{};
    tcs.ossa = ssa_offset(c, i);
    tcs.nssa = 2;
    tcs.oentry = c.entry_offset;
    tcs.ogsbase = c.thread_block_offset + i * c.thread_block_stride;
    tcs.fslimit = tcs.gslimit = 0xfff;
    std::memcpy(page.bytes.data(), &tcs, sizeof tcs);
    visit({tcs_offset(c, i), 1, sgx::secinfo::type(sgx::PageType::kTcs), true, page.bytes});
    visit({ssa_offset(c, i), 2u * c.ssa_frame_pages, rw, false, {}});
  }
}

void Image::for_each_run(const std::function<void(const PageRun&)>& visit) const {
  const EnclaveConfig& c = config();
  // Blocks of threads that this enclave cannot have would be a good part of what is measured.
  const std::uint64_t unused = c.thread_block_offset + c.tcs_count * c.thread_block_stride;
  const std::uint64_t end = c.thread_block_offset + abi::kMaxTcs * c.thread_block_stride;
  visit_segments([&](const PageRun& run) {
    visit_part(run, 0, unused, visit);
    visit_part(run, end, ~std::uint64_t{0}, visit);
  });
  const std::uint64_t rw = kReg | sgx::secinfo::kR | sgx::secinfo::kW;
  // Heap contents are not measured: the enclave zeroes every page before it hands it out.
  if (c.heap_size != 0) visit({c.heap_offset, c.heap_size / sgx::kPageSize, rw, false, {}});
  visit_threads(visit);
}

std::uint64_t Image::page_count() const {
  std::uint64_t n = 0;
  for_each_run([&](const PageRun& run) { n += run.count; });
  return n;
}

}  // namespace sealift::host
