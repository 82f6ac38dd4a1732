// Start-up of libsoftsgx.so: before the program's main, with one thread.
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <sys/auxv.h>

#include <cstdio>
#include <cstdlib>
#include <optional>

#include "softsgx/cpu/bases.h"
#include "softsgx/cpu/cpuid.h"
#include "softsgx/cpu/interrupt.h"
#include "softsgx/cpu/patched.h"
#include "softsgx/cpu/platform.h"
#include "softsgx/cpu/signal_table.h"
#include "softsgx/cpu/single_step.h"
#include "softsgx/cpu/thread_arena.h"
#include "softsgx/driver/device.h"
#include "softsgx/driver/vdso.h"
#include "softsgx/isa/machine_name.h"
#include "softsgx/preload/init.h"
#include "softsgx/preload/options.h"

namespace softsgx::preload {
namespace {

// Made by the constructor below, which runs before this file's own static initialisers.
Options* g_options = nullptr;

[[noreturn]] void fail(const std::string& why) {
  std::fprintf(stderr, "softsgx: %s\n", why.c_str());
  std::_Exit(125);
}

std::uint64_t read_xcr0() noexcept {
  std::uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
}

// The main program's executable segments: the first object that dl_iterate_phdr shows.
int patch_main_program(dl_phdr_info* info, std::size_t, void*) {
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& p = info->dlpi_phdr[i];
    if (p.p_type != PT_LOAD || !(p.p_flags & PF_X)) continue;
    CpuidPresentation::patch(info->dlpi_addr + p.p_vaddr, info->dlpi_addr + p.p_vaddr + p.p_filesz);
  }
  return 1;
}

// Signals stay blocked in between: a page fault in a handler would want the locks.
thread_local std::optional<SignalsBlocked> t_fork_signals;
void before_fork() {
  t_fork_signals.emplace();
  g_devices->before_fork();
}
void after_fork_in_parent() {
  g_devices->after_fork();
  t_fork_signals.reset();
}
void after_fork_in_child() {
  g_devices->after_fork();
  ThreadArena::after_fork();
  PatchedEnclu::after_fork();
  SignalTable::after_fork();
  t_fork_signals.reset();
}

// Never destroyed: threads may execute ENCLU until the process is gone.
void start_machine() {
  std::string error;
  auto machine = open_machine(g_options->machine, error);
  if (!machine) fail(error);
  g_processor.machine = machine.release();
  g_devices = new Devices(*g_processor.machine);
  g_processor.platform = g_devices;
  g_processor.xcr0 = read_xcr0();
  g_processor.xsave = XsaveLayout::detect();
}

[[gnu::constructor]] void initialise(int, char**, char** envp) {
  std::string error;
  const auto options = read_options(error);
  if (!options) fail(error);
  if (options->machine.empty()) return;
  g_options = new Options(*options);
  constexpr unsigned long kHwcap2Fsgsbase = 1u << 1;
  if (!(getauxval(AT_HWCAP2) & kHwcap2Fsgsbase) || g_options->no_fsgsbase) Bases::use_system_calls();
  start_machine();
  if (!ThreadArena::create()) fail("no address space for signal stacks; raise the limit on virtual memory (ulimit -v)");
  if (install_vdso(envp)) {
    g_processor.vdso_enclu = vdso_enclu_address();
    g_processor.vdso_exception = vdso_exception_address();
  }
  SingleStep::configure(g_options->step);
  if (!g_options->trap_enclu && !SingleStep::enabled()) PatchedEnclu::enable();
  if (!CpuidPresentation::enable_faulting() && g_options->patch_cpuid) dl_iterate_phdr(&patch_main_program, nullptr);
  pthread_atfork(&before_fork, &after_fork_in_parent, &after_fork_in_child);
  SignalTable::install();
  if (!ThreadArena::arm(nullptr)) fail("the kernel refuses an alternate signal stack");
}

}  // namespace

bool active() noexcept {
  return g_devices != nullptr;
}

void first_enclave() {
  static std::atomic<bool> started = false;
  if (!g_options || g_options->aex_hz == 0 || started.exchange(true)) return;
  if (!Interrupts::start_random(g_options->aex_hz, g_options->seed)) fail("--aex-hz: cannot make a thread");
}

}  // namespace softsgx::preload
