// Problem: why something about a VM did not work, as one line for a person.
#pragma once

#include <string>

namespace sealift::vm {

struct Problem {
  enum class Kind {
    kBusy,         // something else is under way
    kUnreachable,  // nobody answers
    kRefused,      // QEMU, the guest or a check said no
    kCancelled,
    kFailed,
    kBadRequest,
    kLost,  // the VM's QEMU is gone
  };
  Kind kind = Kind::kFailed;
  std::string what;
  std::string object;  // of what
  std::string advice;  // what to do
};

}  // namespace sealift::vm
