// SGX1 ioctls. Checks, their order and their errors follow Linux (arch/x86/kernel/cpu/sgx/ioctl.c).
#include <asm/sgx.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "softsgx/driver/enclave.h"
#include "softsgx/driver/user_memory.h"

namespace softsgx {
namespace {

constexpr std::uint64_t kPageMask = sgx::kPageSize - 1;
// Pages per turn of ADD_PAGES: the lock is dropped in between, and one mmap covers as many.
constexpr EpcIndex kAddChunk = 16384;

bool valid_secinfo(const sgx::Secinfo& s) noexcept {
  const std::uint64_t rights = s.flags & sgx::secinfo::kPermMask;
  const std::uint64_t type = s.flags & sgx::secinfo::kTypeMask;
  const bool tcs = type == sgx::secinfo::type(sgx::PageType::kTcs);
  if (!tcs && type != sgx::secinfo::type(sgx::PageType::kReg)) return false;
  if ((rights & sgx::secinfo::kW) && !(rights & sgx::secinfo::kR)) return false;
  if (tcs && rights) return false;  // the CPU would overwrite them silently
  if (s.flags & ~(sgx::secinfo::kPermMask | sgx::secinfo::kTypeMask)) return false;
  return std::all_of(std::begin(s.reserved), std::end(s.reserved), [](std::uint64_t r) { return r == 0; });
}

// The most that a mapping of the page may ask for. TCS pages are read and written by the CPU.
int max_prot_of(const sgx::Secinfo& s) noexcept {
  if ((s.flags & sgx::secinfo::kTypeMask) == sgx::secinfo::type(sgx::PageType::kTcs)) return PROT_READ | PROT_WRITE;
  int prot = 0;
  if (s.flags & sgx::secinfo::kR) prot |= PROT_READ;
  if (s.flags & sgx::secinfo::kW) prot |= PROT_WRITE;
  if (s.flags & sgx::secinfo::kX) prot |= PROT_EXEC;
  return prot;
}

}  // namespace

struct Enclave::AddRequest {
  sgx_enclave_add_pages user;
  sgx::Secinfo secinfo;
};

long Enclave::ioctl(unsigned long command, std::uint64_t argument) {
  if (ioctl_running_.exchange(true)) return -EBUSY;
  drop_if_lost();
  const long r = lost() ? dispatch_lost(command, argument) : dispatch(command, argument);
  ioctl_running_ = false;
  return r;
}

long Enclave::dispatch(unsigned long command, std::uint64_t argument) {
  switch (command) {
    case SGX_IOC_ENCLAVE_CREATE:
      return create(argument);
    case SGX_IOC_ENCLAVE_ADD_PAGES:
      return add_pages(argument);
    case SGX_IOC_ENCLAVE_INIT:
      return init(argument);
    case SGX_IOC_ENCLAVE_PROVISION:
      return provision(argument);
    case SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS:
      return restrict_permissions(argument);
    case SGX_IOC_ENCLAVE_MODIFY_TYPES:
      return modify_types(argument);
    case SGX_IOC_ENCLAVE_REMOVE_PAGES:
      return remove_pages(argument);
    default:
      return -ENOTTY;
  }
}

// What Linux answers when its ENCLS leaf faults on a page whose EPCM entry is gone: EIO while an enclave is built,
// EFAULT when one is changed.
long Enclave::dispatch_lost(unsigned long command, std::uint64_t argument) {
  switch (command) {
    case SGX_IOC_ENCLAVE_CREATE:
      return -EINVAL;  // as of every enclave that is created already
    case SGX_IOC_ENCLAVE_ADD_PAGES:
    case SGX_IOC_ENCLAVE_INIT:
      return initialized_ ? -EINVAL : -EIO;
    case SGX_IOC_ENCLAVE_PROVISION:
      return provision(argument);
    case SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS:
    case SGX_IOC_ENCLAVE_MODIFY_TYPES:
    case SGX_IOC_ENCLAVE_REMOVE_PAGES:
      return initialized_ ? -EFAULT : -EINVAL;
    default:
      return -ENOTTY;
  }
}

long Enclave::create(std::uint64_t argument) {
  if (created_) return -EINVAL;
  sgx_enclave_create user;
  if (!copy_from_user(&user, argument, sizeof user)) return -EFAULT;
  sgx::Secs secs;
  if (!copy_from_user(&secs, user.src, sizeof secs)) return -EFAULT;
  if (machine_.unsound()) return -ENODEV;
  std::uint64_t generation = machine_.generation();
  while (!settle_generation(generation)) {
    if (generation == machine_.generation()) return -EBUSY;  // a process does not let go of what is lost
    generation = machine_.generation();
  }

  Locked locked(*this);
  const auto epc = machine_.allocate_run(1, owner_, generation);
  if (!epc) return -ENOMEM;
  const sgx::Secinfo secinfo{};
  if (encls::ecreate(machine_, *epc, secs, secinfo).faulted()) {
    machine_.release(*epc, 1, generation);
    return -EIO;
  }
  if (!table_.reset(secs.baseaddr, secs.size)) {
    (void)encls::eremove(machine_, *epc);
    machine_.release(*epc, 1, generation);
    return -ENOMEM;
  }
  generation_.store(generation, std::memory_order_release);
  secs_ = *epc;
  base_ = secs.baseaddr;
  size_ = secs.size;
  attributes_ = secs.attributes.flags;
  created_ = true;
  return 0;
}

// One page: EADD and, if asked, its 16 EEXTENDs. On failure the EPC page is free again, but allocated.
long Enclave::add_page(const AddRequest& r, std::uint64_t page, EpcIndex epc) {
  if (table_.page(page) != kNotEpc) return -EBUSY;
  const std::uint64_t linaddr = table_.address_of(page);
  const std::uint64_t source = r.user.src + (linaddr - base_ - r.user.offset);
  if (encls::eadd(machine_, epc, secs_, linaddr, reinterpret_cast<const void*>(source), r.secinfo).faulted()) {
    return -EIO;
  }
  if ((r.user.flags & SGX_PAGE_MEASURE) && encls::eextend_page(machine_, epc, secs_).faulted()) {
    (void)encls::eremove(machine_, epc);
    return -EIO;
  }
  table_.add(page, epc, max_prot_of(r.secinfo));
  return 0;
}

// Up to `wanted` pages from one run of EPC. `added` also counts if the answer is an error.
long Enclave::add_run(const AddRequest& r, std::uint64_t first_page, EpcIndex wanted, EpcIndex& added) {
  added = 0;
  const std::uint64_t source = r.user.src + ((first_page << sgx::kPageShift) - r.user.offset);
  if (!readable(source, std::uint64_t{wanted} << sgx::kPageShift)) {
    if (wanted == 1) return -EFAULT;
    wanted = 1;  // the pages before the bad one still count
    if (!readable(source, sgx::kPageSize)) return -EFAULT;
  }
  Locked locked(*this);
  std::optional<EpcIndex> epc;
  EpcIndex got = wanted;
  while (!(epc = machine_.allocate_run(got, owner_, generation_)) && got > 1) got = (got + 1) / 2;
  if (!epc) return lost() ? -EIO : -ENOMEM;
  machine_.prefault(*epc, got);
  long result = 0;
  while (added < got && (result = add_page(r, first_page + added, *epc + added)) == 0) ++added;
  if (added < got) machine_.release(*epc + added, got - added, generation_);
  const Range range{table_.address_of(first_page), table_.address_of(first_page + added)};
  refresh_mapped_bits(range);
  if (const long installed = install(range); installed != 0 && result == 0) result = installed;
  return result;
}

long Enclave::add_pages(std::uint64_t argument) {
  if (!created_ || initialized_) return -EINVAL;
  AddRequest r;
  if (!copy_from_user(&r.user, argument, sizeof r.user)) return -EFAULT;
  if ((r.user.offset & kPageMask) || (r.user.src & kPageMask)) return -EINVAL;
  if (r.user.length == 0 || (r.user.length & kPageMask)) return -EINVAL;
  if (r.user.offset + r.user.length < r.user.offset || r.user.offset + r.user.length > size_) return -EINVAL;
  if (!copy_from_user(&r.secinfo, r.user.secinfo, sizeof r.secinfo)) return -EFAULT;
  if (!valid_secinfo(r.secinfo)) return -EINVAL;

  const std::uint64_t first = r.user.offset >> sgx::kPageShift, count = r.user.length >> sgx::kPageShift;
  std::uint64_t done = 0;
  long result = 0;
  while (done < count && result == 0) {
    EpcIndex added = 0;
    const auto wanted = static_cast<EpcIndex>(std::min<std::uint64_t>(count - done, kAddChunk));
    result = add_run(r, first + done, wanted, added);
    done += added;
  }
  r.user.count = done << sgx::kPageShift;
  return copy_to_user(argument, &r.user, sizeof r.user) ? result : -EFAULT;
}

long Enclave::init(std::uint64_t argument) {
  if (!created_ || initialized_) return -EINVAL;
  sgx_enclave_init user;
  if (!copy_from_user(&user, argument, sizeof user)) return -EFAULT;
  sgx::Sigstruct sigstruct;
  if (!copy_from_user(&sigstruct, user.sigstruct, sizeof sigstruct)) return -EFAULT;
  constexpr std::uint32_t kIntel = 0x8086;
  if (sigstruct.vendor != 0 && sigstruct.vendor != kIntel) return -EINVAL;
  if (attributes_ & ~attributes_allowed_ & ~sgx::attribute::kInit) return -EACCES;
  // What the platform does not have, the signature must not demand.
  const std::uint64_t xfrm_reserved = ~machine_.xfrm_allowed();
  if (sigstruct.attributes.xfrm & sigstruct.attributemask.xfrm & xfrm_reserved) return -EINVAL;
  if (sigstruct.miscselect & sigstruct.miscmask & ~sgx::miscselect::kExinfo) return -EINVAL;

  Locked locked(*this);
  const Leaf leaf = encls::einit(machine_, secs_, sigstruct);
  // If it was lost in the middle of the leaf, what was measured is not what was added.
  if (!leaf.ok()) return leaf.faulted() || lost() ? -EIO : -EPERM;
  initialized_ = true;
  trap_base_writes(0, table_.pages());
  return 0;
}

long Enclave::provision(std::uint64_t argument) {
  sgx_enclave_provision user;
  if (!copy_from_user(&user, argument, sizeof user)) return -EFAULT;
  if (!is_provision_device(static_cast<int>(user.fd))) return -EINVAL;
  attributes_allowed_ |= sgx::attribute::kProvisionKey;
  return 0;
}

}  // namespace softsgx
