#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>

#include "softsgx/isa/digest.h"
#include "softsgx/isa/machine.h"

namespace softsgx {
namespace {

struct ProcStat {
  bool readable = false;
  char state = '?';
  long threads = 0;
  std::uint64_t start = 0;
};

// /proc/PID/stat (proc(5)). The command name may hold anything, so fields are counted from the last ')'.
ProcStat read_stat(const std::string& pid) {
  std::ifstream in("/proc/" + pid + "/stat");
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const auto paren = text.rfind(')');
  if (paren == std::string::npos) return {};
  std::istringstream fields(text.substr(paren + 1));
  ProcStat out;
  std::string skip;
  fields >> out.state;                                      // field 3
  for (int field = 4; field < 20; ++field) fields >> skip;  // 4..19
  fields >> out.threads >> skip >> out.start;               // 20, 21, 22
  out.readable = !fields.fail();
  return out;
}

std::uint64_t boot_hash() {
  std::ifstream in("/proc/sys/kernel/random/boot_id");
  const std::string id{std::istreambuf_iterator<char>(in), {}};
  const Digest digest = sha256(id.data(), id.size());
  std::uint64_t out = 0;
  std::memcpy(&out, digest.data(), sizeof(out));
  return out;
}

std::uint32_t pid_namespace() {
  struct stat st {};
  return stat("/proc/self/ns/pid", &st) == 0 ? static_cast<std::uint32_t>(st.st_ino) : 0;
}

}  // namespace

Owner Owner::self() {
  return {.pid = static_cast<std::uint32_t>(getpid()),
          .pid_ns = pid_namespace(),
          .start = read_stat("self").start,
          .boot = boot_hash()};
}

bool Owner::alive() const {
  // Another kernel (a VM's guest, or this host before a reboot) or namespace: its pids mean nothing here.
  static const std::uint64_t this_boot = boot_hash();
  if (boot != this_boot || pid_ns != pid_namespace()) return true;
  if (kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH) return false;
  const ProcStat st = read_stat(std::to_string(pid));
  if (!st.readable) return true;  // hidden (hidepid), but there
  if (st.start != start) return false;
  // A zombie has lost its memory and so its enclaves; but a leader that left by pthread_exit shows as one while its
  // other threads live on.
  return !((st.state == 'Z' || st.state == 'X') && st.threads <= 1);
}

}  // namespace softsgx
