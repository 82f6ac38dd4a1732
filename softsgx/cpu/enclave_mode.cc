#include "softsgx/cpu/enclave_mode.h"

#include "softsgx/cpu/bases.h"
#include "softsgx/cpu/context.h"
#include "softsgx/cpu/patched.h"
#include "softsgx/cpu/platform.h"

namespace softsgx {

constinit Processor g_processor;

namespace {

// What is in neither a signal frame nor patched.S's registers.
void load_bases(const ThreadRecord& r, Registers& regs) noexcept {
  regs.fsbase = r.lp.enclave_mode ? r.enclave_fsbase : Bases::fs();
  regs.gsbase = r.lp.enclave_mode ? r.enclave_gsbase : Bases::gs();
  regs.xcr0 = g_processor.xcr0;
}

Registers load(const ucontext_t& context, const ThreadRecord& r) noexcept {
  Registers regs;
  read_registers(context, regs);
  load_bases(r, regs);
  return regs;
}

void note_host_bases(ThreadRecord& r, const Registers& regs) noexcept {
  if (r.lp.enclave_mode) return;
  r.host_fsbase = regs.fsbase;
  r.host_gsbase = regs.gsbase;
}

// entry.S and patched.S load the bases: the enclave's when they leave to enclave mode; the host's are loaded already.
void note_enclave_bases(ThreadRecord& r, const Registers& regs) noexcept {
  if (!r.lp.enclave_mode) return;
  r.enclave_fsbase = regs.fsbase;
  r.enclave_gsbase = regs.gsbase;
}

void store(const Registers& regs, ucontext_t& context, ThreadRecord& r) noexcept {
  write_registers(regs, context);
  note_enclave_bases(r, regs);
}

bool bytes_are(const ucontext_t& context, const ThreadRecord& r,
               std::initializer_list<std::uint8_t> expected) noexcept {
  std::uint64_t at = rip(context);
  for (const std::uint8_t byte : expected) {  // in order: the next byte may lie on an unmapped page
    std::uint8_t found = 0;
    if (!code_byte(at++, r, found) || found != byte) return false;
  }
  return true;
}

}  // namespace

bool code_byte(std::uint64_t at, const ThreadRecord& r, std::uint8_t& out) noexcept {
  if (!r.lp.enclave_mode) {
    out = *reinterpret_cast<const volatile std::uint8_t*>(at);
    return true;
  }
  const EpcIndex page = g_processor.platform->fetched_page(at);
  if (page == kNotEpc || !g_processor.machine->is_epc(page)) return false;
  out = std::to_integer<std::uint8_t>(g_processor.machine->page(page)[at % sgx::kPageSize]);
  return true;
}

bool at_enclu(const ucontext_t& context, const ThreadRecord& r) noexcept {
  return bytes_are(context, r, {0x0f, 0x01, 0xd7});
}

bool at_cpuid(const ucontext_t& context, const ThreadRecord& r) noexcept {
  return bytes_are(context, r, {0x0f, 0xa2});
}

Leaf execute_enclu(ucontext_t& context, ThreadRecord& r) noexcept {
  const bool was_inside = r.lp.enclave_mode;
  Registers regs = load(context, r);
  note_host_bases(r, regs);
  const bool resumes =
      !was_inside && static_cast<std::uint32_t>(regs.rax) == static_cast<std::uint32_t>(sgx::Enclu::kEresume);
  XsaveImage image;
  const Leaf leaf = enclu::execute(*g_processor.machine, g_processor.platform->address_space(), r.lp, regs, image);
  if (leaf.faulted()) return leaf;
  store(regs, context, r);
  if (!was_inside && r.lp.enclave_mode) PatchedEnclu::entered(r);
  if (resumes && r.lp.enclave_mode) g_processor.xsave.from_intel(image, r.lp.xfrm, xsave_image(context));
  return leaf;
}

Leaf execute_patched(ThreadRecord& r) noexcept {
  // What only a trap can do: an exit from lost EPC is #PF, and one that sets TF again needs a signal frame.
  if (r.lp.lost(*g_processor.machine) || (r.lp.enclave_mode && r.lp.saved_tf)) return Leaf::gp();
  r.patched.rflags = 0;
  load_bases(r, r.patched);
  note_host_bases(r, r.patched);
  const bool was_inside = r.lp.enclave_mode;
  const Leaf leaf = was_inside
                        ? enclu::eexit(*g_processor.machine, r.lp, r.patched)
                        : enclu::eenter(*g_processor.machine, g_processor.platform->address_space(), r.lp, r.patched);
  if (leaf.faulted()) return leaf;
  note_enclave_bases(r, r.patched);
  if (!was_inside) PatchedEnclu::entered(r);
  return leaf;
}

void asynchronous_exit(ucontext_t& context, ThreadRecord& r, const enclu::AexEvent& event) noexcept {
  const std::uint64_t xfrm = r.lp.xfrm;
  Registers regs = load(context, r);
  // The trap flag is ours (single_step.h); in production enclaves hardware hides the program's as well.
  XsaveImage image;
  g_processor.xsave.to_intel(xsave_image(context), image);
  enclu::aex(*g_processor.machine, r.lp, regs, image, event);
  store(regs, context, r);
  g_processor.xsave.from_intel(image, xfrm, xsave_image(context));
}

}  // namespace softsgx
