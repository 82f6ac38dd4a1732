// VmBook: what sealiftd remembers of its VMs over a restart, in one file of the state folder. One that cannot be read
// is put aside and reported in one line.
#pragma once

#include <filesystem>
#include <string>

#include "daemon/wire.pb.h"

namespace sealift::daemon {

class VmBook {
 public:
  // Throws as `save`, if a book that cannot be read cannot be replaced.
  explicit VmBook(std::filesystem::path state_dir);

  // Throws std::system_error naming the file; what was there before is then still there.
  void save() const;

  [[nodiscard]] wire::VmAdd* find(const std::string& name);
  void add(const wire::VmAdd& vm);
  void remove(const std::string& name);

  void leaving(const wire::VmBook::Leaving& move);  // a known move: an update
  void left(const std::string& move);               // it has ended
  void arrived(const wire::VmBook::Arrived& move);
  [[nodiscard]] const wire::VmBook::Arrived* find_arrived(const std::string& move) const;

  [[nodiscard]] const wire::VmBook& contents() const noexcept { return book_; }

 private:
  std::filesystem::path path_;
  wire::VmBook book_;
};

}  // namespace sealift::daemon
