// The host's view of why threads may not go in. The enclave's own gate decides; this one only saves useless entries
// and gives waiting threads something to wait on.
//
// Thread-safe. States only move: open <-> quiescing, and from either to gone (destroyed, crashed, closing), for ever.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>

#include "migration/errc.h"

namespace sealift::host {

class HostGate {
 public:
  void quiesce() { quiescing_.store(true); }
  void open() {
    const std::lock_guard lock(mutex_);
    quiescing_.store(false);
    changed_.notify_all();
  }
  // The first cause stays. `report` is one line for a person.
  void end(Errc cause, const std::string& report) {
    const std::lock_guard lock(mutex_);
    if (cause_.load() != Errc::kOk) return;
    report_ = report;
    cause_.store(cause);
    changed_.notify_all();
  }
  [[nodiscard]] bool quiescing() const { return quiescing_.load(); }
  // kOk while the enclave lives.
  [[nodiscard]] Errc gone() const { return cause_.load(); }
  [[nodiscard]] std::string report() const {
    const std::lock_guard lock(mutex_);
    return report_;
  }
  // Blocks while quiescing. kOk: open again.
  [[nodiscard]] Errc wait_open() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !quiescing_.load() || cause_.load() != Errc::kOk; });
    return cause_.load();
  }
  void wait_gone() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return cause_.load() != Errc::kOk; });
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<bool> quiescing_{false};
  std::atomic<Errc> cause_{Errc::kOk};
  std::string report_;
};

}  // namespace sealift::host
