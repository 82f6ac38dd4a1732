// The function that ours stands in front of.
#pragma once

#include <dlfcn.h>

#define SOFTSGX_EXPORT extern "C" [[gnu::visibility("default")]]

// SOFTSGX_NEXT(close)(fd): calls the next definition of `close`.
#define SOFTSGX_NEXT(name)                                                                  \
  ([]() noexcept {                                                                          \
    static const auto found = reinterpret_cast<decltype(&::name)>(dlsym(RTLD_NEXT, #name)); \
    return found;                                                                           \
  }())
