// Installs a handler for the life of an object.
#pragma once

#include <csignal>
#include <initializer_list>

namespace signals {

using Function = void (*)(int, siginfo_t*, void*);

// Writes where nothing is mapped. The pointer is hidden from the compiler's bounds checks.
inline void fault() {
  volatile int* p = reinterpret_cast<volatile int*>(16);
  asm volatile("" : "+r"(p));
  *p = 1;
}

class Handler {
 public:
  explicit Handler(int signal, Function f, int flags = 0, std::initializer_list<int> mask = {}) : signal_(signal) {
    struct sigaction a {};
    a.sa_sigaction = f;
    a.sa_flags = SA_SIGINFO | flags;
    for (const int m : mask) sigaddset(&a.sa_mask, m);
    sigaction(signal, &a, &old_);
  }
  ~Handler() { sigaction(signal_, &old_, nullptr); }
  Handler(const Handler&) = delete;
  Handler& operator=(const Handler&) = delete;

 private:
  int signal_;
  struct sigaction old_ {};
};

}  // namespace signals
