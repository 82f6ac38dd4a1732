#include "daemon/journal.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <sstream>
#include <system_error>

namespace sealift::daemon {

namespace {

constexpr const char* kSuffix = ".journal";

[[noreturn]] void fail(const std::filesystem::path& path) {
  throw std::system_error(errno, std::generic_category(), path.string());
}

}  // namespace

std::string hex(const std::string& bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    out.push_back(kDigits[static_cast<unsigned char>(c) >> 4]);
    out.push_back(kDigits[static_cast<unsigned char>(c) & 15]);
  }
  return out;
}

std::filesystem::path journal_path(const std::filesystem::path& state_dir, const std::string& attempt) {
  return state_dir / (hex(attempt) + kSuffix);
}

std::filesystem::path spool_path(const std::filesystem::path& spool_dir, const std::string& attempt) {
  return spool_dir / (hex(attempt) + ".stream");
}

void replace_file(const std::filesystem::path& path, const std::string& bytes) {
  const std::filesystem::path draft = path.string() + ".new";
  const int fd = ::open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) fail(draft);
  const bool written = ::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
  const int error = errno;
  ::close(fd);
  if (!written) throw std::system_error(error, std::generic_category(), draft.string());
  std::filesystem::rename(draft, path);
}

void write_journal(const std::filesystem::path& path, const wire::Journal& journal) {
  replace_file(path, journal.SerializeAsString());
}

std::vector<wire::Journal> read_journals(const std::filesystem::path& state_dir) {
  std::vector<wire::Journal> out;
  for (const auto& entry : std::filesystem::directory_iterator(state_dir)) {
    if (entry.path().extension() != kSuffix) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    std::ostringstream bytes;
    bytes << file.rdbuf();
    wire::Journal journal;
    if (journal.ParseFromString(bytes.str()) && journal.incoming().attempt().size() == 16) {
      out.push_back(std::move(journal));
    } else {
      spdlog::error("{} is not a journal of a migration: left alone", entry.path().string());
    }
  }
  return out;
}

}  // namespace sealift::daemon
