#include "host/image.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
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

}  // namespace

Image Image::load(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(Errc::kWrongEnclave, path + ": cannot read the enclave image: check the path");
  std::vector<std::uint8_t> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  Image image(std::move(bytes), path);
  image.check_config();
  return image;
}

Image::Image(std::vector<std::uint8_t> bytes, std::string name) : bytes_(std::move(bytes)), name_(std::move(name)) {
  check_elf();
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
  const Elf64_Shdr& s = section(".sealift_config");
  if (s.sh_size < sizeof(EnclaveConfig) || s.sh_offset % alignof(EnclaveConfig) != 0) corrupt(".sealift_config");
  return *reinterpret_cast<const EnclaveConfig*>(range(s.sh_offset, sizeof(EnclaveConfig), ".sealift_config").data());
}

EnclaveConfig& Image::config() {
  return const_cast<EnclaveConfig&>(std::as_const(*this).config());
}

const sgx::Sigstruct& Image::sigstruct() const {
  const Elf64_Shdr& s = section(".sealift_sigstruct");
  if (s.sh_size < sizeof(sgx::Sigstruct) || s.sh_offset % 8 != 0) corrupt(".sealift_sigstruct");
  return *reinterpret_cast<const sgx::Sigstruct*>(range(s.sh_offset, sizeof(sgx::Sigstruct), "SIGSTRUCT").data());
}

sgx::Sigstruct& Image::sigstruct() {
  return const_cast<sgx::Sigstruct&>(std::as_const(*this).sigstruct());
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
  const bool aligned =
      (c.heap_offset | c.heap_size | c.threads_offset | c.stack_size | c.slot_bytes) % sgx::kPageSize == 0;
  const bool order = c.image_size == image_size() && c.heap_offset >= c.image_size &&
                     c.heap_size <= (std::uint64_t{4} << 30) && c.threads_offset >= c.heap_offset + c.heap_size &&
                     c.thread_stride == stride && c.stack_size <= (std::uint64_t{64} << 20) &&
                     c.slot_bytes >= sgx::kPageSize && c.slot_bytes <= (std::uint64_t{64} << 20);
  const bool fits = (c.elrange_size & (c.elrange_size - 1)) == 0 && c.elrange_size <= (std::uint64_t{1} << 36) &&
                    thread_base(c, c.tcs_count) <= c.elrange_size;
  if (!threads || !aligned || !order || !fits || c.cpuid_count > kMaxCpuid || c.cpuid_site_count > kMaxCpuidSites) {
    corrupt("inconsistent configuration");
  }
}

void Image::visit_segments(const std::function<void(const PageRun&)>& visit) const {
  for (const Elf64_Phdr& p : segments()) {
    if (p.p_type != PT_LOAD) continue;
    const std::uint64_t begin = align_down(p.p_vaddr), end = align_up(p.p_vaddr + p.p_memsz);
    const std::uint64_t file_end = align_up(p.p_vaddr + p.p_filesz);
    std::vector<std::uint8_t> data(file_end - begin);
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(p.p_offset), p.p_filesz,
                data.begin() + static_cast<std::ptrdiff_t>(p.p_vaddr - begin));
    const std::uint64_t flags = rights(p.p_flags);
    if (!data.empty()) visit({begin, data.size() / sgx::kPageSize, flags, true, data});
    if (end > file_end) visit({file_end, (end - file_end) / sgx::kPageSize, flags, true, {}});
  }
}

void Image::visit_threads(const std::function<void(const PageRun&)>& visit) const {
  const EnclaveConfig& c = config();
  const std::uint64_t rw = kReg | sgx::secinfo::kR | sgx::secinfo::kW;
  for (std::uint32_t i = 0; i < c.tcs_count; ++i) {
    // Threads made inside bring their own stacks; the control thread's is in the core area.
    const bool has_stack = i >= abi::kMainTcs && i < abi::kFirstEcallTcs + c.ecall_threads;
    if (has_stack) visit({stack_offset(c, i), c.stack_size / sgx::kPageSize, rw, false, {}});
    std::vector<std::uint8_t> page(sgx::kPageSize);
    sgx::Tcs tcs{};
    tcs.ossa = ssa_offset(c, i);
    tcs.nssa = 2;
    tcs.oentry = c.entry_offset;
    tcs.ogsbase = c.thread_block_offset + i * c.thread_block_stride;
    tcs.fslimit = tcs.gslimit = 0xfff;
    std::memcpy(page.data(), &tcs, sizeof tcs);
    visit({tcs_offset(c, i), 1, sgx::secinfo::type(sgx::PageType::kTcs), true, page});
    visit({ssa_offset(c, i), 2u * c.ssa_frame_pages, rw, false, {}});
  }
}

void Image::for_each_run(const std::function<void(const PageRun&)>& visit) const {
  const EnclaveConfig& c = config();
  visit_segments(visit);
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
