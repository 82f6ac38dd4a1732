// The test enclave: no libc, one function for each thing a test wants done inside.
#include "softsgx/tests/abi/enclave/interface.h"

long do_ud2(void);
long do_syscall(void);
long do_divide(void);
long do_int3(void);
long do_read(uint64_t address);
long do_write(uint64_t address, uint64_t value);
long do_enclu(uint64_t leaf, uint64_t rbx, uint64_t rcx, uint64_t rdx);
void hold_registers(const void* pattern, void* out, volatile uint32_t* stop);

static inline struct ThreadBlock* block(void) {
  struct ThreadBlock* b;
  __asm__("rdgsbase %0" : "=r"(b));
  return b;
}

// EPC operands of ENCLU leaves must be aligned and inside: bounce buffers per thread are on the stack.
static long enclu(uint64_t leaf, const struct EncluCall* outside) {
  const struct EncluCall c = *outside;
  return do_enclu(leaf, c.rbx, c.rcx, c.rdx);
}

static long page_leaf(const struct PageCall* outside) {
  const struct PageCall c = *outside;
  uint64_t secinfo[8] __attribute__((aligned(64))) = {c.secinfo_flags};
  __asm__ volatile("" ::"r"(secinfo) : "memory");
  return do_enclu(c.leaf, (uint64_t)secinfo, c.page, c.source);
}

static long count(volatile uint32_t* stop) {
  long n = 0;
  while (!*stop) ++n;
  return n;
}

static long sum(long n) {
  volatile long s = 0;
  for (long i = 1; i <= n; ++i) s += i;
  return s;
}

static long set_bases(uint64_t fs, volatile uint32_t* stop) {
  __asm__ volatile("wrfsbase %0" ::"r"(fs));
  count(stop);
  uint64_t now;
  __asm__ volatile("rdfsbase %0" : "=r"(now));
  return (long)now;
}

long enclave_main(uint64_t function, uint64_t a, uint64_t b) {
  uint64_t base;
  switch (function) {
    case kAdd:
      return (long)(a + b);
    case kUd2:
      return do_ud2();
    case kSyscall:
      return do_syscall();
    case kDivide:
      return do_divide();
    case kInt3:
      return do_int3();
    case kRead:
      return do_read(a);
    case kWrite:
      return do_write(a, b);
    case kEnclu:
      return enclu(a, (const struct EncluCall*)b);
    case kBases:
      __asm__("rdgsbase %0" : "=r"(base));
      *(uint64_t*)a = base;
      __asm__("rdfsbase %0" : "=r"(base));
      return (long)base;
    case kHold: {
      const struct HoldCall* h = (const struct HoldCall*)b;
      hold_registers((const void*)a, (void*)h->out, (volatile uint32_t*)h->stop);
      return 0;
    }
    case kCount:
      return count((volatile uint32_t*)a);
    case kPushOnHost:
      block()->level[0][0] -= 16;
      *(uint64_t*)block()->level[0][0] = b;
      return 0;
    case kSetBases:
      return set_bases(a, (volatile uint32_t*)b);
    case kExecute:
      return ((long (*)(void))a)();
    case kRflags:
      __asm__ volatile("pushfq; orl $0x40400, (%%rsp); popfq" ::: "memory", "cc");
      return 0;
    case kPageLeaf:
      return page_leaf((const struct PageCall*)a);
    case kSum:
      return sum((long)a);
    default:
      return -1;
  }
}

long enclave_exception(uint64_t request, uint64_t a, uint64_t b) {
  (void)b;
  // GPRSGX is the end of the frame.
  uint64_t* gpr = (uint64_t*)(block()->ssa + block()->ssa_frame_bytes - 184);
  enum { kRipWord = 17, kExitinfoWord = 20 };
  if (request == kSkip) {
    const uint32_t exitinfo = *(volatile uint32_t*)&gpr[kExitinfoWord];
    gpr[kRipWord] += a;
    return (long)exitinfo;
  }
  for (int i = 0; i < 23; ++i) ((uint64_t*)a)[i] = gpr[i];
  return 0;
}

const uint64_t sample_data[512] __attribute__((aligned(4096))) = {0x5ca1ab1e};
uint64_t writable_data[512] __attribute__((aligned(4096))) = {0xdecade};
