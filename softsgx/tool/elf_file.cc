#include "softsgx/tool/elf_file.h"

#include <elf.h>

#include <cstring>
#include <fstream>
#include <iterator>

namespace softsgx::tool {
namespace {

// The file in memory; every access is checked, a damaged file just has nothing in it.
class File {
 public:
  explicit File(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(in), {});
    const auto header = read<Elf64_Ehdr>(0);
    if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_ident[EI_CLASS] != ELFCLASS64)
      return;
    for (unsigned i = 0; i < header->e_shnum; ++i) {
      const auto s = read<Elf64_Shdr>(header->e_shoff + std::uint64_t{i} * sizeof(Elf64_Shdr));
      if (!s) return;
      sections_.push_back(*s);
    }
  }

  [[nodiscard]] const std::vector<Elf64_Shdr>& sections() const { return sections_; }

  template <typename T>
  [[nodiscard]] std::optional<T> read(std::uint64_t offset) const {
    if (offset > bytes_.size() || bytes_.size() - offset < sizeof(T)) return std::nullopt;
    T v;
    std::memcpy(&v, bytes_.data() + offset, sizeof v);
    return v;
  }

  [[nodiscard]] std::string text(const Elf64_Shdr& section, std::uint64_t index) const {
    const Elf64_Shdr* strings = section.sh_link < sections_.size() ? &sections_[section.sh_link] : nullptr;
    if (!strings || strings->sh_offset >= bytes_.size()) return {};
    const std::uint64_t at = strings->sh_offset + index;
    if (at >= bytes_.size()) return {};
    return {bytes_.data() + at, strnlen(bytes_.data() + at, bytes_.size() - at)};
  }

 private:
  std::vector<char> bytes_;
  std::vector<Elf64_Shdr> sections_;
};

}  // namespace

std::vector<std::string> needed_libraries(const std::string& path) {
  const File file(path);
  std::vector<std::string> names;
  for (const Elf64_Shdr& s : file.sections()) {
    if (s.sh_type != SHT_DYNAMIC) continue;
    for (std::uint64_t at = 0; at + sizeof(Elf64_Dyn) <= s.sh_size; at += sizeof(Elf64_Dyn)) {
      const auto entry = file.read<Elf64_Dyn>(s.sh_offset + at);
      if (!entry) break;
      if (entry->d_tag == DT_NEEDED) names.push_back(file.text(s, entry->d_un.d_val));
    }
  }
  return names;
}

std::optional<Symbol> find_symbol(const std::string& path, const std::string& name) {
  const File file(path);
  for (const Elf64_Shdr& s : file.sections()) {
    if (s.sh_type != SHT_SYMTAB && s.sh_type != SHT_DYNSYM) continue;
    for (std::uint64_t at = 0; at + sizeof(Elf64_Sym) <= s.sh_size; at += sizeof(Elf64_Sym)) {
      const auto symbol = file.read<Elf64_Sym>(s.sh_offset + at);
      if (!symbol) break;
      if (symbol->st_shndx != SHN_UNDEF && file.text(s, symbol->st_name) == name) {
        return Symbol{symbol->st_value, symbol->st_size};
      }
    }
  }
  return std::nullopt;
}

}  // namespace softsgx::tool
