// An enclave image: the ELF file that `sealift sign` prepared, seen as the pages to add.
//
// Signer and loader walk the same pages in the same order, so that the MRENCLAVE in SIGSTRUCT is the one the CPU gets.
// The file is the host's and may be corrupt: every offset is checked, and errors say what is wrong with it.
#pragma once

#include <elf.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "host/error.h"
#include "migration/config.h"
#include "sgx/arch.h"

namespace sealift::host {

// `count` pages from `offset` on, all with the same SECINFO. `data` is empty for zero pages, else count pages long and
// page-aligned, as drivers want it.
struct PageRun {
  std::uint64_t offset;
  std::uint64_t count;
  std::uint64_t secinfo_flags;
  bool measure;  // EEXTEND the contents
  std::span<const std::uint8_t> data;
};

// A copy is the same image: it shares the bytes.
class Image {
 public:
  // Maps and checks the whole file. Its pages are the page cache's, so that many processes with one kind of enclave
  // take its memory once. A file that is replaced stays what it was for those who have it; one that is changed in place
  // makes enclaves that have to be built again fail, until it is put back. Throws Error(kWrongEnclave) with the path
  // and the fault.
  static Image load(const std::string& path);
  explicit Image(const std::vector<std::uint8_t>& bytes, std::string name);

  [[nodiscard]] const EnclaveConfig& config() const;
  [[nodiscard]] const sgx::Sigstruct& sigstruct() const;
  [[nodiscard]] const std::string& name() const noexcept { return name_; }

  // For the signer, of images made from bytes.
  [[nodiscard]] EnclaveConfig& config();
  [[nodiscard]] sgx::Sigstruct& sigstruct();
  [[nodiscard]] std::uint64_t symbol(const std::string& name) const;  // value; throws when absent
  [[nodiscard]] std::uint64_t image_size() const;                     // end of the last segment, page-aligned
  struct Section {
    std::uint64_t vaddr, size;
    std::span<std::uint8_t> bytes;
  };
  [[nodiscard]] std::vector<Section> executable_sections();
  struct Function {
    std::uint64_t vaddr, size;
  };
  [[nodiscard]] std::vector<Function> functions() const;
  [[nodiscard]] std::span<const std::uint8_t> bytes() const noexcept { return bytes_; }

  // The enclave's pages in EADD order, TCSs included. Needs a configuration. `data` is valid during the visit.
  void for_each_run(const std::function<void(const PageRun&)>& visit) const;
  [[nodiscard]] std::uint64_t page_count() const;

  // Throws if the file has become shorter, and what is missing could not be read. Before an enclave is built again.
  void check_file() const;

  // Throws unless the configuration is complete and consistent with the image.
  void check_config() const;

 private:
  class Storage;
  Image(std::shared_ptr<Storage> storage, std::string name);
  [[nodiscard]] const EnclaveConfig& config_in_file() const;
  [[nodiscard]] const sgx::Sigstruct& sigstruct_in_file() const;
  [[nodiscard]] const Elf64_Ehdr& header() const;
  [[nodiscard]] std::span<const Elf64_Phdr> segments() const;
  [[nodiscard]] std::span<const Elf64_Shdr> sections() const;
  [[nodiscard]] const Elf64_Shdr& section(const std::string& name) const;
  [[nodiscard]] std::span<const std::uint8_t> range(std::uint64_t offset, std::uint64_t size, const char* what) const;
  void bound(std::uint64_t offset, std::uint64_t size, const char* what) const;
  void check_elf() const;
  void visit_segments(const std::function<void(const PageRun&)>& visit) const;
  void visit_threads(const std::function<void(const PageRun&)>& visit) const;
  [[noreturn]] void corrupt(const std::string& why) const;

  std::shared_ptr<Storage> storage_;
  // Copies, of an image that was loaded: they are asked for while the enclave runs, whatever has become of its file.
  struct Loaded {
    EnclaveConfig config;
    sgx::Sigstruct sigstruct;
  };
  std::shared_ptr<const Loaded> loaded_;
  std::span<std::uint8_t> bytes_;
  std::string name_;
};

}  // namespace sealift::host
