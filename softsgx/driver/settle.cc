// Before the first enclave of a new generation of EPC: every process must have let go of the last one.
//
// A process that has not noticed the loss still maps pages that are about to become other enclaves'. A thread of it
// that was inside, and has not run since, would go on in their code and data. So whoever builds first interrupts those
// processes and waits until none is left; what a TLB shootdown is to a kernel.
#include <dirent.h>
#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <string>

#include "softsgx/cpu/interrupt.h"
#include "softsgx/driver/device.h"
#include "softsgx/isa/raw_syscall.h"

namespace softsgx {
namespace {

// Pauses between two looks: doubled up to the longest, some 10 s in all. Mostly the first look is the last but one;
// when many processes build at once they must not drown one another in signals.
constexpr long kFirstPauseNanoseconds = 2'000'000, kLongestPauseNanoseconds = 256'000'000;
constexpr int kRounds = 45;

bool maps(const std::string& process, const std::string& file) {
  std::ifstream in(process + "/maps");
  for (std::string line; std::getline(in, line);) {
    if (line.ends_with(file)) return true;
  }
  return false;
}

// Others than programs under softsgx may map the machine (its own commands, QEMU): the signal would end them.
bool handles_interrupts(const std::string& process) {
  std::ifstream in(process + "/status");
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("SigCgt:")) continue;
    return (std::strtoull(line.c_str() + 7, nullptr, 16) & signal_bit(kInterruptSignal)) != 0;
  }
  return false;
}

void tell_others(int machine_fd) {
  char file[PATH_MAX];
  const std::string link = "/proc/self/fd/" + std::to_string(machine_fd);
  const ssize_t n = readlink(link.c_str(), file, sizeof file);
  DIR* dir = n > 0 ? opendir("/proc") : nullptr;
  if (!dir) return;
  const std::string path = " " + std::string(file, static_cast<std::size_t>(n));
  while (const dirent* entry = readdir(dir)) {
    const int pid = std::atoi(entry->d_name);
    const std::string process = std::string("/proc/") + entry->d_name;
    if (pid > 0 && pid != getpid() && maps(process, path) && handles_interrupts(process)) Interrupts::tell_of_loss(pid);
  }
  closedir(dir);
}

}  // namespace

void Devices::epc_lost() noexcept {
  for (std::size_t i = 0; i < count_.load(std::memory_order_acquire); ++i) slots_[i].enclave->drop_if_lost();
  SignalsBlocked blocked;
  std::lock_guard guard(presence_lock_);
  if (presence_ != 0 && presence_ != machine_.generation()) leave_presence();
}

// The lock must be held.
void Devices::leave_presence() noexcept {
  machine_.leave_generation(presence_);
  presence_ = settled_ = 0;
}

bool Devices::settle(std::uint64_t generation) {
  epc_lost();
  {
    SignalsBlocked blocked;
    std::lock_guard guard(presence_lock_);
    if (settled_ == generation) return true;
    if (presence_ != generation && !machine_.enter_generation(generation)) return false;
    presence_ = generation;
  }
  long nanoseconds = kFirstPauseNanoseconds;
  for (int round = 0; machine_.generation() == generation; ++round) {
    if (!machine_.others_in_past_generations(generation)) {
      SignalsBlocked blocked;
      std::lock_guard guard(presence_lock_);
      if (presence_ == generation) settled_ = generation;
      return true;
    }
    if (round == kRounds) break;
    tell_others(machine_.fd());
    timespec pause{.tv_sec = 0, .tv_nsec = nanoseconds};
    raw::call(SYS_nanosleep, raw::arg(&pause));
    nanoseconds = std::min(2 * nanoseconds, kLongestPauseNanoseconds);
  }
  return false;
}

bool settle_generation(std::uint64_t generation) {
  return g_devices->settle(generation);
}

}  // namespace softsgx
