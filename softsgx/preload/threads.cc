// Threads get their record (softsgx/cpu/thread_arena.h) before the program's code runs in them, and lose it at the end.
#include <pthread.h>
#include <threads.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <new>

#include "softsgx/cpu/thread_arena.h"
#include "softsgx/preload/init.h"
#include "softsgx/preload/next.h"

namespace softsgx::preload {
namespace {

// Rounds that a thread's end may still use its record: destructors of other keys may execute ENCLU.
constexpr std::uintptr_t kRounds = 4;
static_assert(kRounds <= PTHREAD_DESTRUCTOR_ITERATIONS);

void keep_for(std::uintptr_t rounds);

void at_thread_end(void* value) {
  const auto left = reinterpret_cast<std::uintptr_t>(value) - 1;
  if (left != 0) return keep_for(left);
  ThreadArena::disarm();
}

pthread_key_t end_key() {
  static const pthread_key_t key = [] {
    pthread_key_t k;
    pthread_key_create(&k, &at_thread_end);
    return k;
  }();
  return key;
}

template <typename Result>
struct Start {
  Result (*function)(void*);
  void* argument;
};

void keep_for(std::uintptr_t rounds) {
  pthread_setspecific(end_key(), reinterpret_cast<void*>(rounds));
}

void arm_thread() {
  if (ThreadArena::arm(nullptr)) keep_for(kRounds);
}

// Not noexcept: pthread_exit and cancellation unwind through it.
template <typename Result>
Result run(void* raw) {
  const std::unique_ptr<Start<Result>> start(static_cast<Start<Result>*>(raw));
  const Start<Result> s = *start;
  arm_thread();
  return s.function(s.argument);
}

}  // namespace
}  // namespace softsgx::preload

using namespace softsgx::preload;  // NOLINT: the definitions below are libc's names

SOFTSGX_EXPORT int pthread_create(pthread_t* thread, const pthread_attr_t* attr, void* (*function)(void*),
                                  void* argument) noexcept {
  if (!active()) return SOFTSGX_NEXT(pthread_create)(thread, attr, function, argument);
  auto* start = new (std::nothrow) Start<void*>{function, argument};
  if (!start) return EAGAIN;
  const int r = SOFTSGX_NEXT(pthread_create)(thread, attr, &run<void*>, start);
  if (r != 0) delete start;
  return r;
}

SOFTSGX_EXPORT int thrd_create(thrd_t* thread, thrd_start_t function, void* argument) {
  if (!active()) return SOFTSGX_NEXT(thrd_create)(thread, function, argument);
  auto* start = new (std::nothrow) Start<int>{function, argument};
  if (!start) return thrd_nomem;
  const int r = SOFTSGX_NEXT(thrd_create)(thread, &run<int>, start);
  if (r != thrd_success) delete start;
  return r;
}
