// What sealiftd was told to do. Durations are for people's patience, not for correctness: running into one leads to a
// listed transition of the state machines (migration/source.h, migration/target.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace sealift::daemon {

struct Timeouts {
  std::chrono::milliseconds connect{10'000};      // the other daemon and the agents' link
  std::chrono::milliseconds session{30'000};      // attestation and offer
  std::chrono::milliseconds spawn{60'000};        // the target's process builds its enclave
  std::chrono::milliseconds quiesce{5'000};       // the enclave's threads reach a quiescent point
  std::chrono::milliseconds stall{30'000};        // no record moves
  std::chrono::milliseconds verify{30'000};       // from the last record to Ready
  std::chrono::milliseconds grant{30'000};        // from the ticket to the target's running
  std::chrono::milliseconds redial{10'000};       // to reach a lost target before resuming here
  std::chrono::milliseconds ready_wait{600'000};  // how long a restored target waits for a commit
  std::chrono::milliseconds recover{60'000};      // how long a restarted daemon waits for the source's process
  std::chrono::milliseconds settle{5'000};        // after a start: until every process has found the daemon again
  std::chrono::milliseconds slowest_retry{3'000};
  std::chrono::milliseconds retry{200};   // between two tries to reach a peer or the agent
  std::chrono::milliseconds kill{5'000};  // between SIGTERM and SIGKILL for a target that will not run
};

struct Options {
  std::string name;
  std::string socket;
  std::string listen;  // HOST:PORT; empty: no incoming migrations
  std::string agent_socket;
  std::vector<std::string> agent_command;  // started if nothing answers on agent_socket
  std::filesystem::path state_dir;
  std::filesystem::path spool_dir;    // default: state_dir
  std::vector<std::string> launcher;  // put before the command line of programs started for incoming migrations
  std::vector<std::filesystem::path> allowed_programs;  // files or folders; see `may_start`
  // Virtual machines on this host: where their brokers come to, and those that are reached at a channel (name,
  // channel).
  std::vector<std::string> guest_listen;
  std::vector<std::pair<std::string, std::string>> guest_channels;
  bool stop_children = false;
  std::uint32_t window = 64;  // records under way
  Timeouts timeouts;
};

}  // namespace sealift::daemon
