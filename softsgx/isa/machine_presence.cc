// Which generations of EPC processes still have in use: machine.h, rule 3.
//
// A process holds a shared lock on one byte far behind the machine's end, whose place is the generation. The kernel
// keeps the lock: it moves with a VM when the section does not, and goes with the process.
#include <fcntl.h>

#include <cerrno>

#include "softsgx/isa/machine.h"

namespace softsgx {
namespace {

constexpr std::uint64_t kPresenceOffset = std::uint64_t{1} << 50, kPresenceBytes = std::uint64_t{1} << 30;

struct flock range(short type, std::uint64_t begin, std::uint64_t end) noexcept {
  struct flock r {};
  r.l_type = type;
  r.l_whence = SEEK_SET;
  r.l_start = static_cast<off_t>(begin);
  r.l_len = static_cast<off_t>(end - begin);
  return r;
}

bool set(int fd, short type, std::uint64_t at) noexcept {
  struct flock request = range(type, at, at + 1);
  int r = 0;
  do {
    r = fcntl(fd, F_OFD_SETLK, &request);
  } while (r != 0 && errno == EINTR);
  return r == 0;
}

bool anybody(int fd, std::uint64_t begin, std::uint64_t end) noexcept {
  if (begin == end) return false;
  struct flock question = range(F_WRLCK, begin, end);
  return fcntl(fd, F_OFD_GETLK, &question) == 0 && question.l_type != F_UNLCK;
}

}  // namespace

std::uint64_t Machine::presence_byte(std::uint64_t generation) const noexcept {
  return base_offset_ + kPresenceOffset + generation % kPresenceBytes;
}

bool Machine::enter_generation(std::uint64_t generation) noexcept {
  return set(fd_, F_RDLCK, presence_byte(generation));
}

void Machine::leave_generation(std::uint64_t generation) noexcept {
  (void)set(fd_, F_UNLCK, presence_byte(generation));
}

bool Machine::others_in_past_generations(std::uint64_t generation) const noexcept {
  const std::uint64_t mine = presence_byte(generation), begin = base_offset_ + kPresenceOffset;
  return anybody(fd_, begin, mine) || anybody(fd_, mine + 1, begin + kPresenceBytes);
}

}  // namespace softsgx
