// When an enclave's EPC pages go: with the last descriptor and the last mapping (Linux: sgx_encl_release).
#include "softsgx/driver/enclave.h"
#include "softsgx/isa/raw_syscall.h"

namespace softsgx {

void Enclave::closed() {
  {
    Locked locked(*this);
    open_ = false;
  }
  release_if_unused();
}

bool Enclave::in_use() {
  Locked locked(*this);
  return open_ || !vmas_.empty() || created_;
}

void Enclave::release_if_unused() {
  Locked locked(*this);
  if (open_ || !vmas_.empty() || !created_) return;
  // A forked child that lets go of its copies must not take the pages from its parent, who still uses them.
  if (static_cast<std::uint32_t>(raw::call(SYS_getpid)) != owner_.pid) return;
  if (lost()) return forget();
  // No mapping is left, so no thread can go on inside: it faults and leaves. One that has not yet keeps its pages
  // (EREMOVE answers SGX_ENCLAVE_ACT), until somebody calls again.
  bool all = true;
  EpcIndex first = 0, count = 0;  // a run to release at once: each release locks the machine
  auto flush = [&] {
    if (count != 0) machine_.release(first, count, generation_);
    count = 0;
  };
  for (std::uint64_t i = 0; i < table_.pages(); ++i) {
    const EpcIndex epc = table_.page(i);
    if (epc == kNotEpc) continue;
    if (!encls::eremove(machine_, epc).ok()) {
      all = false;
      continue;
    }
    table_.remove(i);
    if (count != 0 && epc != first + count) flush();
    if (count == 0) first = epc;
    ++count;
  }
  flush();
  if (!all || !encls::eremove(machine_, secs_).ok()) return;
  machine_.release(secs_, 1, generation_);
  forget();
}

void Enclave::forget() noexcept {
  generation_ = 0;
  secs_ = kNotEpc;
  table_.clear();
  base_ = size_ = attributes_ = 0;
  attributes_allowed_ = kUnprivilegedAttributes;
  created_ = initialized_ = dropped_ = false;
}

}  // namespace softsgx
