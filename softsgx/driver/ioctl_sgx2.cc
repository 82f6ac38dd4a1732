// SGX2 ioctls: rights, types and removal of pages of an initialised enclave (Linux 6.0 and later).
#include <asm/sgx.h>
#include <sched.h>
#include <sys/mman.h>

#include <cerrno>

#include "softsgx/cpu/interrupt.h"
#include "softsgx/driver/enclave.h"
#include "softsgx/driver/user_memory.h"

namespace softsgx {
namespace {

constexpr std::uint64_t kPageMask = sgx::kPageSize - 1;

sgx::PageType type_of(const Machine& m, EpcIndex epc) noexcept {
  return epcm::type(m.epcm(epc).state.load(std::memory_order_acquire));
}

}  // namespace

bool Enclave::valid_range(std::uint64_t offset, std::uint64_t length) const noexcept {
  if ((offset & kPageMask) || length == 0 || (length & kPageMask)) return false;
  return offset + length >= offset && offset + length <= size_;
}

// ETRACK and the interrupts that make its cycle end. The enclave's lock must not be held: a thread that is to leave may
// be waiting for it in a page fault.
void Enclave::track() {
  // Threads of a forked process cannot be interrupted from here; their EACCEPT then answers SGX_NOT_TRACKED.
  constexpr int kRounds = 1000, kYieldsPerRound = 64;
  (void)encls::etrack(machine_, secs_);
  for (int round = 0; round < kRounds && machine_.untracked_processors(secs_) != 0; ++round) {
    Interrupts::send_to_inside(secs_);
    for (int i = 0; i < kYieldsPerRound && machine_.untracked_processors(secs_) != 0; ++i) sched_yield();
  }
}

long Enclave::restrict_page(std::uint64_t page, const sgx::Secinfo& secinfo, std::uint64_t& result) {
  Locked locked(*this);
  const EpcIndex epc = table_.page(page);
  if (epc == kNotEpc) return -EFAULT;
  if (type_of(machine_, epc) != sgx::PageType::kReg) return -EINVAL;
  const Leaf leaf = encls::emodpr(machine_, epc, secinfo);
  if (leaf.faulted()) return -EFAULT;
  if (!leaf.ok()) {
    result = static_cast<std::uint64_t>(leaf.error);
    return -EFAULT;
  }
  const std::uint64_t at = table_.address_of(page);
  return install({at, at + sgx::kPageSize});
}

long Enclave::restrict_permissions(std::uint64_t argument) {
  if (!initialized_) return -EINVAL;
  sgx_enclave_restrict_permissions user;
  if (!copy_from_user(&user, argument, sizeof user)) return -EFAULT;
  if (!valid_range(user.offset, user.length)) return -EINVAL;
  if (user.permissions & ~sgx::secinfo::kPermMask) return -EINVAL;
  if ((user.permissions & sgx::secinfo::kW) && !(user.permissions & sgx::secinfo::kR)) return -EINVAL;
  if (user.result || user.count) return -EINVAL;

  const sgx::Secinfo secinfo{.flags = user.permissions, .reserved = {}};
  long r = 0;
  for (; user.count < user.length; user.count += sgx::kPageSize) {
    std::uint64_t result = 0;
    r = restrict_page((user.offset + user.count) >> sgx::kPageShift, secinfo, result);
    user.result = result;
    if (r != 0) break;
  }
  // Linux tracks after every page; once for all of them is the same to the enclave.
  if (user.count != 0) track();
  return copy_to_user(argument, &user, sizeof user) ? r : -EFAULT;
}

long Enclave::modify_page(std::uint64_t page, sgx::PageType type, std::uint64_t& result) {
  Locked locked(*this);
  const EpcIndex epc = table_.page(page);
  if (epc == kNotEpc) return -EFAULT;
  const sgx::PageType now = type_of(machine_, epc);
  const bool legal = now == sgx::PageType::kReg || (now == sgx::PageType::kTcs && type == sgx::PageType::kTrim);
  if (!legal) return -EINVAL;
  const int max_prot = table_.max_prot(page);
  constexpr int kReadWrite = PROT_READ | PROT_WRITE;
  const bool becomes_tcs = now == sgx::PageType::kReg && type == sgx::PageType::kTcs;
  if (becomes_tcs && (~max_prot & kReadWrite)) return -EPERM;
  const sgx::Secinfo secinfo{.flags = sgx::secinfo::type(type), .reserved = {}};
  const Leaf leaf = encls::emodt(machine_, epc, secinfo);
  if (leaf.faulted()) return -EFAULT;
  if (!leaf.ok()) {
    result = static_cast<std::uint64_t>(leaf.error);
    return -EFAULT;
  }
  if (becomes_tcs) table_.set_max_prot(page, kReadWrite);
  const std::uint64_t at = table_.address_of(page);
  return install({at, at + sgx::kPageSize});
}

long Enclave::modify_types(std::uint64_t argument) {
  if (!initialized_) return -EINVAL;
  sgx_enclave_modify_types user;
  if (!copy_from_user(&user, argument, sizeof user)) return -EFAULT;
  if (!valid_range(user.offset, user.length)) return -EINVAL;
  constexpr std::uint64_t kTypeBits = 0xff;
  if (user.page_type & ~kTypeBits) return -EINVAL;
  if (user.result || user.count) return -EINVAL;
  const auto type = static_cast<sgx::PageType>(user.page_type);

  long r = type == sgx::PageType::kTcs || type == sgx::PageType::kTrim ? 0 : -EINVAL;
  for (; r == 0 && user.count < user.length; user.count += sgx::kPageSize) {
    std::uint64_t result = 0;
    r = modify_page((user.offset + user.count) >> sgx::kPageShift, type, result);
    user.result = result;
    if (r != 0) break;
  }
  if (user.count != 0) track();
  return copy_to_user(argument, &user, sizeof user) ? r : -EFAULT;
}

// A trimmed page that its enclave has accepted. Linux asks by an EMODPR that must fault; the EPCM says it directly.
long Enclave::remove_page(std::uint64_t page) {
  Locked locked(*this);
  const EpcIndex epc = table_.page(page);
  if (epc == kNotEpc) return -EFAULT;
  const std::uint64_t state = machine_.epcm(epc).state.load(std::memory_order_acquire);
  if (epcm::type(state) != sgx::PageType::kTrim || (state & epcm::kModified)) return -EPERM;
  const std::uint64_t at = table_.address_of(page);
  const Range range{at, at + sgx::kPageSize};
  table_.set_mapped(page, false);
  const Leaf leaf = encls::eremove(machine_, epc);
  if (!leaf.ok()) return -EBUSY;
  table_.remove(page);
  machine_.release(epc, 1, generation_);
  return install(range);
}

long Enclave::remove_pages(std::uint64_t argument) {
  if (!initialized_) return -EINVAL;
  sgx_enclave_remove_pages user;
  if (!copy_from_user(&user, argument, sizeof user)) return -EFAULT;
  if (!valid_range(user.offset, user.length)) return -EINVAL;
  if (user.count) return -EINVAL;
  long r = 0;
  for (; user.count < user.length; user.count += sgx::kPageSize) {
    if ((r = remove_page((user.offset + user.count) >> sgx::kPageShift)) != 0) break;
  }
  return copy_to_user(argument, &user, sizeof user) ? r : -EFAULT;
}

}  // namespace softsgx
