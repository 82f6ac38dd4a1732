// Page faults in an enclave's mappings (Linux: sgx_vma_fault, sgx_encl_eaug_page). Runs in signal handlers.
#include <sys/mman.h>

#include "softsgx/driver/enclave.h"

namespace softsgx {
namespace {

// x86: any mapping with rights can be read.
bool permits(int prot, std::uint32_t access) noexcept {
  if (access & pfec::kFetch) return prot & PROT_EXEC;
  if (access & pfec::kWrite) return prot & PROT_WRITE;
  return prot != PROT_NONE;
}

}  // namespace

FaultAnswer Enclave::page_fault(std::uint64_t address, std::uint32_t access) noexcept {
  Locked locked(*this);
  const auto vma = vmas_.find(address);
  if (!vma) return FaultAnswer::kNotOurs;
  if (!permits(vma->prot, access)) return FaultAnswer::kAccess;
  if (!created_ || address - base_ >= size_) return FaultAnswer::kBus;
  const std::uint64_t i = table_.page_of(address);
  const EpcIndex epc = table_.page(i);
  // The page tables still name the page; its EPCM entry is not valid any more.
  if (lost()) {
    drop();
    return epc == kNotEpc ? FaultAnswer::kBus : FaultAnswer::kEpcm;
  }
  // The new page is pending: the access comes again, and is then refused by the EPCM until EACCEPT.
  if (epc == kNotEpc) return initialized_ && augment(address) ? FaultAnswer::kRetry : FaultAnswer::kBus;
  if ((table_.max_prot(i) & vma->prot) != vma->prot) return FaultAnswer::kBus;
  if (!permits(machine_.page_rights(epc), access)) return FaultAnswer::kEpcm;
  const std::uint64_t page = table_.address_of(i);
  return install({page, page + sgx::kPageSize}) == 0 ? FaultAnswer::kRetry : FaultAnswer::kBus;
}

bool Enclave::augment(std::uint64_t address) noexcept {
  // The machine's allocator may be entered here: whoever else holds its lock in this process has signals blocked, and
  // the thread that faulted was at an enclave address, not in an allocator.
  const auto epc = machine_.allocate_run(1, owner_, generation_);
  if (!epc) return false;
  const std::uint64_t i = table_.page_of(address);
  if (encls::eaug(machine_, *epc, secs_, table_.address_of(i)).faulted()) {
    machine_.release(*epc, 1, generation_);
    return false;
  }
  // Rights of dynamically added pages are the enclave's business (EACCEPT, EMODPE), not the driver's.
  table_.add(i, *epc, PROT_READ | PROT_WRITE | PROT_EXEC);
  table_.set_mapped(i, true);
  return true;
}

void Enclave::rights_changed(std::uint64_t address) noexcept {
  const std::uint64_t page = address & ~std::uint64_t{sgx::kPageSize - 1};
  Locked locked(*this);
  // With the page before, whose last instruction may continue here.
  if (const std::uint64_t i = table_.page_of(page); i < table_.pages()) trap_base_writes(i == 0 ? 0 : i - 1, i + 1);
  install({page, page + sgx::kPageSize});
}

}  // namespace softsgx
