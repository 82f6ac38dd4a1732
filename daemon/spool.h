// The source's copy of an attempt's stream, kept until somebody has been granted: what a resume restores from. A file
// of records one after the other, as docs/format.md has them; all of it is ciphertext.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace sealift::daemon {

class Spool {
 public:
  // Throws std::system_error. `create` replaces a file that is there; `open` finds the records in it again.
  static std::unique_ptr<Spool> create(const std::filesystem::path& path);
  static std::unique_ptr<Spool> open(const std::filesystem::path& path);
  ~Spool();
  Spool(const Spool&) = delete;
  Spool& operator=(const Spool&) = delete;

  // Throws std::system_error (disk full): the attempt must then be given up.
  void append(const std::string& record);
  [[nodiscard]] std::string read(std::size_t index) const;
  [[nodiscard]] std::size_t records() const noexcept { return ends_.size(); }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return ends_.empty() ? 0 : ends_.back(); }
  [[nodiscard]] std::uint64_t size_of(std::size_t index) const { return ends_.at(index) - begin_of(index); }
  // Deletes the file.
  void drop();

 private:
  Spool(std::filesystem::path path, int fd) : path_(std::move(path)), fd_(fd) {}
  [[nodiscard]] std::uint64_t begin_of(std::size_t index) const { return index == 0 ? 0 : ends_.at(index - 1); }
  void index();

  std::filesystem::path path_;
  int fd_;
  std::vector<std::uint64_t> ends_;
};

}  // namespace sealift::daemon
