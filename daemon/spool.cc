#include "daemon/spool.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "migration/record.h"

namespace sealift::daemon {

namespace {

[[noreturn]] void fail(const std::filesystem::path& path) {
  throw std::system_error(errno, std::generic_category(), path.string());
}

}  // namespace

std::unique_ptr<Spool> Spool::create(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) fail(path);
  return std::unique_ptr<Spool>(new Spool(path, fd));
}

std::unique_ptr<Spool> Spool::open(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) fail(path);
  std::unique_ptr<Spool> spool(new Spool(path, fd));
  spool->index();
  return spool;
}

Spool::~Spool() {
  ::close(fd_);
}

void Spool::index() {
  struct stat info {};
  if (::fstat(fd_, &info) != 0) fail(path_);
  const auto size = static_cast<std::uint64_t>(info.st_size);
  std::uint64_t at = 0;
  record::RecordHeader header{};
  while (at + sizeof(header) <= size) {
    if (::pread(fd_, &header, sizeof(header), static_cast<off_t>(at)) != sizeof(header)) fail(path_);
    const std::uint64_t end = at + sizeof(header) + header.body_len + record::kTagBytes;
    if (header.magic != record::kMagic || end > size) break;  // the target would refuse the rest
    ends_.push_back(end);
    at = end;
  }
}

void Spool::append(const std::string& record) {
  std::size_t done = 0;
  while (done < record.size()) {
    const ssize_t count = ::pwrite(fd_, record.data() + done, record.size() - done, static_cast<off_t>(bytes() + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail(path_);
    done += static_cast<std::size_t>(count);
  }
  ends_.push_back(bytes() + record.size());
}

std::string Spool::read(std::size_t index) const {
  std::string out(size_of(index), '\0');
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t count =
        ::pread(fd_, out.data() + done, out.size() - done, static_cast<off_t>(begin_of(index) + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail(path_);
    done += static_cast<std::size_t>(count);
  }
  return out;
}

void Spool::drop() {
  std::error_code ignored;  // what cannot be deleted is ciphertext without a key
  std::filesystem::remove(path_, ignored);
}

}  // namespace sealift::daemon
