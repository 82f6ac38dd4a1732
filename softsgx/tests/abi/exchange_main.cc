// softsgx_exchange FILE OTHER PID: what a VM's move does to the memory of its EPC. Stops the process, as a hypervisor
// stops the VM, replaces FILE's contents in place by OTHER's, and lets the process go on.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

// The state letter of /proc/PID/task/TID/stat follows the command's last parenthesis.
bool stopped(const std::filesystem::path& task) {
  std::ifstream in(task / "stat");
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const std::size_t end = text.rfind(") ");
  if (end == std::string::npos) return true;  // it has ended
  return text[end + 2] == 'T' || text[end + 2] == 'Z' || text[end + 2] == 'X';
}

bool all_stopped(const std::string& pid) {
  for (const auto& task : std::filesystem::directory_iterator("/proc/" + pid + "/task")) {
    if (!stopped(task.path())) return false;
  }
  return true;
}

bool replace(const char* file, const char* other) {
  std::ifstream in(other, std::ios::binary);
  const int fd = open(file, O_WRONLY | O_CLOEXEC);
  std::vector<char> buffer(1u << 20);
  for (off_t at = 0; fd >= 0;) {
    in.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    const auto n = in.gcount();
    if (n == 0) return close(fd) == 0 && in.eof();
    if (pwrite(fd, buffer.data(), static_cast<std::size_t>(n), at) != n) return false;
    at += n;
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: softsgx_exchange FILE OTHER PID\n");
    return 2;
  }
  const pid_t pid = std::atoi(argv[3]);
  if (kill(pid, SIGSTOP) != 0) return 1;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!all_stopped(argv[3]) && std::chrono::steady_clock::now() < deadline) usleep(200);
  const bool ok = all_stopped(argv[3]) && replace(argv[1], argv[2]);
  kill(pid, SIGCONT);
  return ok ? 0 : 1;
}
