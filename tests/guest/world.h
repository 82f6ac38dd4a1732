// Two hosts with everything real (software SGX machines, quoting services, agent enclaves, sealiftd in the test
// itself), and guests without a hypervisor: a guest is a set of processes on one EPC section, a broker and a channel.
// It moves by being stopped, given another machine's section at the same place, and another host at the end of its
// channel.
#pragma once

#include <gtest/gtest.h>

#include <asio/io_context.hpp>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/daemon.h"
#include "tests/guest/process.h"

namespace sealift::guest_test {

using daemon::CheckpointOptions;
using daemon::Guest;
using daemon::GuestEnclave;
using daemon::GuestResult;

// One host. Its daemon runs on the test's io_context.
struct Host : SgxHost {
  using SgxHost::SgxHost;
  void start_daemon(asio::io_context& io);
  // Moves of guests that its daemon would go on with after a restart.
  [[nodiscard]] std::size_t journals() const;
  [[nodiscard]] std::string channel() const { return dir / "guests.sock"; }
  [[nodiscard]] daemon::GuestPort& guests() const { return daemon->guests(); }

  std::string listen;
  std::unique_ptr<daemon::Daemon> daemon;
};

// What a guest's program says of one enclave.
struct Said {
  std::uint64_t acked = 0, value = 0, epoch = 0;
  bool consistent = false;
  std::string error;
};

// A program in a guest.
struct Program {
  std::unique_ptr<Process> process;
  std::size_t enclaves = 0;
  std::vector<Said> state() const;
};

class World : public ::testing::Test {
 protected:
  static void SetUpTestSuite();
  static void TearDownTestSuite();
  void SetUp() override;
  void TearDown() override;

  // Runs the daemons until `condition` holds; fails the test after a minute.
  void until(const std::function<bool()>& condition, const std::string& what);
  GuestResult wait(const std::function<void(daemon::GuestPort::Done)>& begin);

  void start_guest(Host& host, const std::string& epc = "64M");
  void start_broker();
  std::size_t run_program(std::size_t enclaves);  // its number
  [[nodiscard]] Guest known(const Host& host) const { return host.guests().guest("g").value_or(Guest{}); }
  void wait_guest(const Host& host, std::size_t enclaves);

  // Everything in the guest stands still; then it finds another machine's section, and another host.
  void pause();
  void arrive_at(Host& host);
  void go_on();
  void move_to(Host& host) {
    pause();
    arrive_at(host);
    go_on();
  }
  // The section's memory goes, as by a suspend: same machine, same host.
  void lose_epc();
  void cut_channel(Host& host);
  // The host's daemon ends and is started again, `meanwhile` in between. Its agent goes on.
  void restart(Host& host, const std::function<void()>& meanwhile = nullptr);

  GuestResult prepare(Host& host, const std::string& target);
  GuestResult checkpoint(Host& host, const CheckpointOptions& options = {});
  GuestResult abort(Host& host);
  GuestResult resume(Host& host, std::chrono::milliseconds patience = std::chrono::seconds(30));
  // Every enclave of every program runs, is consistent, has lost nothing that was acknowledged, and goes on.
  void expect_all_run(std::uint64_t epoch);
  void expect_goes_on(const Program& program, std::size_t enclave, std::uint64_t epoch);

  static std::unique_ptr<Host> a_, b_;
  static std::filesystem::path root_;

  // Only for the time of a test.
  asio::io_context io_;
  std::filesystem::path dir_;  // the guest's
  std::string epc_;
  std::unique_ptr<Process> broker_;
  std::vector<Program> programs_;
};

}  // namespace sealift::guest_test
