#include "daemon/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <system_error>
#include <utility>

#include "daemon/endpoint.h"

extern char** environ;

namespace sealift::daemon {

namespace {

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> out;
  out.reserve(strings.size() + 1);
  for (const std::string& s : strings) out.push_back(const_cast<char*>(s.c_str()));  // posix_spawn changes nothing
  out.push_back(nullptr);
  return out;
}

void check(int error, const std::string& what) {
  if (error != 0) throw std::system_error(error, std::generic_category(), what);
}

struct FileActions {
  FileActions() { ::posix_spawn_file_actions_init(&actions); }
  ~FileActions() { ::posix_spawn_file_actions_destroy(&actions); }
  FileActions(const FileActions&) = delete;
  FileActions& operator=(const FileActions&) = delete;
  posix_spawn_file_actions_t actions{};
};

struct Attributes {
  Attributes() { ::posix_spawnattr_init(&attributes); }
  ~Attributes() { ::posix_spawnattr_destroy(&attributes); }
  Attributes(const Attributes&) = delete;
  Attributes& operator=(const Attributes&) = delete;
  posix_spawnattr_t attributes{};
};

bool is_local_only(std::string_view entry) {
  static constexpr std::array kPrefixes = {
      "LD_",   "SOFTSGX_", "SEALIFT_", "GLIBC_TUNABLES=", "GCONV_PATH=", "MALLOC_", "XDG_RUNTIME_DIR=", "ASAN_",
      "TSAN_", "UBSAN_",   "LSAN_"};
  return std::any_of(kPrefixes.begin(), kPrefixes.end(), [&](const char* p) { return entry.starts_with(p); });
}

}  // namespace

std::shared_ptr<Child> Child::start(asio::io_context& io, const Command& command, std::function<void(int)> on_exit) {
  FileActions files;
  check(::posix_spawn_file_actions_addopen(&files.actions, 0, "/dev/null", O_RDONLY, 0), command.exe);
  check(::posix_spawn_file_actions_addopen(&files.actions, 1, command.log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600),
        command.exe);
  check(::posix_spawn_file_actions_adddup2(&files.actions, 1, 2), command.exe);
  if (!command.cwd.empty()) {
    check(::posix_spawn_file_actions_addchdir_np(&files.actions, command.cwd.c_str()), command.exe);
  }
  // Our sockets are not all close-on-exec.
  check(::posix_spawn_file_actions_addclosefrom_np(&files.actions, 3), command.exe);

  Attributes attributes;
  sigset_t none;
  sigset_t all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  check(::posix_spawnattr_setsigmask(&attributes.attributes, &none), command.exe);
  check(::posix_spawnattr_setsigdefault(&attributes.attributes, &all), command.exe);
  check(::posix_spawnattr_setflags(
            &attributes.attributes,
            static_cast<short>(POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF)),
        command.exe);

  pid_t pid = 0;
  check(::posix_spawnp(&pid, command.exe.c_str(), &files.actions, &attributes.attributes, pointers(command.argv).data(),
                       pointers(command.env).data()),
        command.exe);
  const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (pidfd < 0) check(errno, "pidfd_open");
  std::shared_ptr<Child> child(new Child(io, pid, pidfd, std::move(on_exit)));
  child->wait();
  return child;
}

Child::Child(asio::io_context& io, pid_t pid, int pidfd, std::function<void(int)> on_exit)
    : pid_(pid), pidfd_(io, pidfd), kill_timer_(io), on_exit_(std::move(on_exit)) {}

void Child::wait() {
  pidfd_.async_wait(asio::posix::stream_descriptor::wait_read, [weak = weak_from_this()](const std::error_code& error) {
    const auto self = weak.lock();
    if (error || !self) return;
    int status = 0;
    if (::waitpid(self->pid_, &status, WNOHANG) != self->pid_) return self->wait();
    self->running_ = false;
    self->kill_timer_.cancel();
    if (const auto on_exit = std::exchange(self->on_exit_, nullptr)) on_exit(status);
  });
}

void Child::terminate(std::chrono::milliseconds grace) {
  if (!running_) return;
  ::kill(pid_, SIGTERM);
  kill_timer_.expires_after(grace);
  // Holds the child until it is gone: nobody else may be left who does.
  kill_timer_.async_wait([self = shared_from_this()](const std::error_code& error) {
    if (!error && self->running_) ::kill(self->pid_, SIGKILL);
  });
}

std::vector<std::string> merge_environment(const std::vector<std::string>& theirs,
                                           const std::vector<std::string>& ours) {
  std::vector<std::string> out;
  std::copy_if(theirs.begin(), theirs.end(), std::back_inserter(out), [](const auto& e) { return !is_local_only(e); });
  std::copy_if(ours.begin(), ours.end(), std::back_inserter(out), is_local_only);
  return out;
}

std::vector<std::string> own_environment() {
  std::vector<std::string> out;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) out.emplace_back(*entry);
  return out;
}

bool may_start(const Options& options, const std::string& exe) {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::canonical(exe, error);
  if (error) return false;
  if (options.allowed_programs.empty()) {
    const auto where = parse_host_port(options.listen);
    return !where || where->host == "localhost" || where->host == "::1" || where->host.starts_with("127.");
  }
  return std::any_of(options.allowed_programs.begin(), options.allowed_programs.end(), [&](const auto& allowed) {
    const std::filesystem::path base = std::filesystem::canonical(allowed, error);
    if (error) return false;
    const auto [end, ignored] = std::mismatch(base.begin(), base.end(), program.begin(), program.end());
    return end == base.end();
  });
}

}  // namespace sealift::daemon
