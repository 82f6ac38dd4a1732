// What the processes of a test tell it, and how it stops them at a step.
//
// A test's folder has a FIFO `witness`, into which everybody writes lines (shorter than PIPE_BUF, so whole), and for
// each step at which somebody shall stop a FIFO `hold.<who>.<step>`. Nobody waits for time to pass.
#pragma once

#include <string>

namespace sealift::daemon::testing {

class Stage {
 public:
  Stage(std::string directory, std::string who);
  // "<what> <who> <pid> <rest>"
  void tell(const std::string& what, const std::string& rest = "") const;
  // If the test holds this step: says so and waits until it is released, once.
  void reach(const std::string& step) const;
  // Whether the test is gone, so that who outlives it by design can end.
  [[nodiscard]] bool is_over() const;
  [[nodiscard]] const std::string& who() const { return who_; }

 private:
  std::string directory_;
  std::string who_;
};

}  // namespace sealift::daemon::testing
