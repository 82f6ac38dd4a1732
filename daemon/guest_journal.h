// GuestJournal: what a restarted daemon must know of one guest's move to see it to its end: the guest's name, the
// target, and of each attempt that was offered there its number and whose it is. Nothing secret, and nothing that
// decides anything: tickets are with this machine's agent, which a restart of the daemon leaves alone.
//
// A file for each move, there as long as an attempt is. Not synced, as no journal here (daemon/journal.h).
//
// Threads: none of its own; the caller serialises.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "daemon/wire.pb.h"

namespace sealift::daemon {

class GuestJournal {
 public:
  static constexpr std::size_t kMaxAttempts = 4096;  // as many enclaves as a broker may report
  static constexpr std::size_t kMaxMoves = 64;       // older ones are given up

  // A move that begins. There is no file until it has an attempt.
  GuestJournal(const std::filesystem::path& state_dir, const std::string& guest, const std::string& target);
  // What an earlier life of this daemon has left, the oldest first. A file that is no journal is put aside and reported
  // in one line; what is more than kMaxMoves is removed.
  [[nodiscard]] static std::vector<GuestJournal> read_all(const std::filesystem::path& state_dir);

  void add(const wire::GuestJournal::Attempt& attempt);  // a known one, or one too many: nothing
  void remove(const std::string& attempt);
  void clear();
  // Brings the file up to date, if it is not. A disk that refuses is reported, and tried again at the next change: the
  // move goes on without.
  void flush();

  [[nodiscard]] const wire::GuestJournal& contents() const noexcept { return contents_; }

 private:
  GuestJournal(std::filesystem::path path, wire::GuestJournal contents);

  std::filesystem::path path_;
  wire::GuestJournal contents_;
  bool dirty_ = false;
};

}  // namespace sealift::daemon
