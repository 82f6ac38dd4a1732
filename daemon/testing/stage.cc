#include "daemon/testing/stage.h"

#include <fcntl.h>
#include <unistd.h>

#include <utility>

namespace sealift::daemon::testing {

Stage::Stage(std::string directory, std::string who) : directory_(std::move(directory)), who_(std::move(who)) {}

void Stage::tell(const std::string& what, const std::string& rest) const {
  const int fd = ::open((directory_ + "/witness").c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return;  // the test is over
  const std::string line = what + " " + who_ + " " + std::to_string(::getpid()) + " " + rest + "\n";
  (void)!::write(fd, line.data(), line.size());
  ::close(fd);
}

bool Stage::is_over() const {
  const int fd = ::open((directory_ + "/witness").c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd >= 0) ::close(fd);
  return fd < 0;
}

void Stage::reach(const std::string& step) const {
  const std::string path = directory_ + "/hold." + who_ + "." + step;
  if (::access(path.c_str(), F_OK) != 0) return;
  tell("held", step);
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);  // returns when the test opens the other end
  if (fd < 0) return;
  ::unlink(path.c_str());
  ::close(fd);
}

}  // namespace sealift::daemon::testing
