// Inside: an ordinary program. `visitors` lives in the enclave's memory and moves with it.
#include <atomic>

#include "examples/first/greet.h"
#include "sealift/trusted.h"

static std::atomic<int> visitors{0};
static std::string greet(const std::string& name) {
  return "hello " + name + ", you are visitor " + std::to_string(++visitors);
}
const sealift::Define kGreetDefinition{kGreet, greet};
