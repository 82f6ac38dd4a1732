// SourceQemu: the QEMU that a VM leaves, as far as a move needs it. Debian's QEMU 7.2 as it is; what each step relies
// on is said beside it.
//
// Threads: the io_context's. Ownership: shared; callbacks are dropped with `close`.
#pragma once

#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "vm/facts.h"
#include "vm/options.h"
#include "vm/qmp_client.h"

namespace sealift::vm {

// query-migrate, read once.
struct MigrationView {
  std::string status;
  std::string error;
  std::uint64_t ram_total = 0, ram_remaining = 0, ram_transferred = 0, passes = 0;
  std::uint64_t ram_dealt = 0, ram_zeros = 0;  // pages sent, those of zeros too; and these alone
  double bytes_per_second = 0;
  double setup_ms = 0, downtime_ms = 0, total_ms = 0;  // QEMU's own
  [[nodiscard]] bool under_way() const;
};
[[nodiscard]] MigrationView view_of(const nlohmann::json& query_migrate);

// How fast QEMU sends, and for how long it may pause the guest at the end.
struct Pace {
  std::uint64_t bandwidth = 0;  // bytes a second
  std::chrono::milliseconds downtime{0};
  bool operator==(const Pace&) const = default;
};

class SourceQemu : public std::enable_shared_from_this<SourceQemu> {
 public:
  struct Callbacks {
    std::function<void(const std::string& status)> on_migration;  // a MIGRATION event
    std::function<void()> on_stopped;                             // the guest's CPUs have stopped
    std::function<void(const std::string& why)> on_lost;          // the connection, not necessarily QEMU
  };
  using Done = std::function<void(const QmpReply&)>;

  SourceQemu(asio::io_context& io, std::string path, std::chrono::milliseconds patience);

  void open(Callbacks callbacks, FactsHandler done);
  void migrate(const std::string& uri, const MoveOptions& options, Pace pace, Done done);
  // Of the migration under way.
  void set_pace(Pace pace, Done done);
  void proceed(Done done);
  void poll(std::function<void(const MigrationView&)> done);
  // Until the VM runs here and no migration does; tries for ever (close() ends it).
  enum class Undone { kRunning, kGone };
  void undo(std::function<void(Undone)> done);
  // Ends QEMU, and closes.
  void quit();
  void close();

 private:
  void connect(std::function<void(const QmpClient::Connected&)> done);
  void remember(std::function<void()> done);
  void undo_step();
  void undo_again();
  void watch_undo();
  void undone(Undone how);
  [[nodiscard]] std::vector<QmpCommand> restore() const;

  asio::io_context& io_;
  const std::string path_;
  const std::chrono::milliseconds patience_;
  std::shared_ptr<QmpClient> client_;
  Callbacks callbacks_;
  asio::steady_timer timer_, yank_timer_;
  std::function<void(Undone)> on_undone_;
  nlohmann::json parameters_, capabilities_;  // as they were
  bool closed_ = false;
};

}  // namespace sealift::vm
