#include "tests/lab/raw.h"

#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <memory>
#include <stdexcept>

extern "C" {
void lab_enclu(sealift::lab::RawCall* call);
extern const char lab_aep[], lab_enclu_insn[], lab_enclu_fault[];
}

namespace sealift::lab {
namespace {

constexpr int kTrapPerf = 6;  // TRAP_PERF of <asm-generic/siginfo.h>
constexpr std::size_t kAlternateStack = 256 * 1024;

RawCall* volatile current = nullptr;  // of the one thread that makes raw calls

int kick_signal() {
  return SIGRTMAX - 3;
}

void on_signal(int signal, siginfo_t* info, void* raw_context) {
  auto* context = static_cast<ucontext_t*>(raw_context);
  greg_t* g = context->uc_mcontext.gregs;
  const auto rip = static_cast<std::uint64_t>(g[REG_RIP]);
  const auto insn = reinterpret_cast<std::uint64_t>(lab_enclu_insn);
  if (signal == SIGTRAP && info->si_code == kTrapPerf) {
    if (current != nullptr) current->hit = 1;
    return;
  }
  if (current != nullptr && rip == reinterpret_cast<std::uint64_t>(lab_aep)) {
    current->exception = kException | (static_cast<std::uint64_t>(g[REG_TRAPNO]) & 0xff);
    return;
  }
  if (current != nullptr && rip >= insn && rip < insn + 7) {
    g[REG_RIP] = reinterpret_cast<greg_t>(lab_enclu_fault);
    return;
  }
  // A bug of the laboratory itself: die by this signal, as the test reports.
  ::signal(signal, SIG_DFL);
}

void on_kick(int /*signal*/) {}

class PerfBreakpoint {
 public:
  explicit PerfBreakpoint(const Breakpoint& b) {
    perf_event_attr attr{};
    attr.size = sizeof attr;
    attr.type = PERF_TYPE_BREAKPOINT;
    attr.bp_type = b.on_write ? HW_BREAKPOINT_W : HW_BREAKPOINT_X;
    attr.bp_addr = b.address;
    attr.bp_len = b.on_write ? std::uint64_t{HW_BREAKPOINT_LEN_1} : sizeof(long);
    attr.sample_period = 1;
    attr.exclude_kernel = 1;
    attr.exclude_hv = 1;
    attr.remove_on_exec = 1;
    attr.sigtrap = 1;
    fd_ = static_cast<int>(::syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC));
  }
  ~PerfBreakpoint() {
    if (fd_ >= 0) close(fd_);
  }
  PerfBreakpoint(const PerfBreakpoint&) = delete;
  PerfBreakpoint& operator=(const PerfBreakpoint&) = delete;
  [[nodiscard]] bool ok() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// Signals this thread again and again.
class Kicker {
 public:
  explicit Kicker(std::uint32_t us) {
    if (us == 0) return;
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = kick_signal();
    event._sigev_un._tid = gettid();
    armed_ = timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0;
    if (!armed_) throw std::runtime_error("no timer");
    const timespec period{static_cast<time_t>(us / 1'000'000), static_cast<long>(us % 1'000'000) * 1000};
    const itimerspec spec{period, period};
    timer_settime(timer_, 0, &spec, nullptr);
  }
  ~Kicker() {
    if (armed_) timer_delete(timer_);
  }
  Kicker(const Kicker&) = delete;
  Kicker& operator=(const Kicker&) = delete;

 private:
  timer_t timer_{};
  bool armed_ = false;
};

}  // namespace

void raw_install() {
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  for (const int signal : {SIGILL, SIGSEGV, SIGBUS, SIGFPE, SIGTRAP}) sigaction(signal, &action, nullptr);
  struct sigaction kick {};
  kick.sa_handler = on_kick;
  kick.sa_flags = SA_ONSTACK | SA_RESTART;
  sigaction(kick_signal(), &kick, nullptr);
  // Never freed: it must outlive every signal of this thread.
  void* stack = mmap(nullptr, kAlternateStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stack == MAP_FAILED) throw std::runtime_error("no alternate stack");
  stack_t alternate{};
  alternate.ss_sp = stack;
  alternate.ss_size = kAlternateStack;
  sigaltstack(&alternate, nullptr);
}

bool raw_enclu(RawCall& call, const std::vector<Breakpoint>& breakpoints, std::uint32_t kick_us, std::string& why) {
  std::vector<std::unique_ptr<PerfBreakpoint>> armed;
  for (const Breakpoint& b : breakpoints) {
    armed.push_back(std::make_unique<PerfBreakpoint>(b));
    if (!armed.back()->ok()) {
      why = std::string("perf_event_open: ") + std::strerror(errno);  // NOLINT(concurrency-mt-unsafe)
      return false;
    }
  }
  const Kicker kicker(kick_us);
  call.exception = call.hit = 0;
  std::memset(lab_xsave, 0, sizeof lab_xsave);
  current = &call;
  lab_enclu(&call);
  current = nullptr;
  return true;
}

}  // namespace sealift::lab
