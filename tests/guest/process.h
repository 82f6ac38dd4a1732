// Programs that a test starts, and the part of a host that every such test needs: a software SGX machine, its quoting
// service, an agent enclave.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace sealift::guest_test {

// A program of this build.
[[nodiscard]] std::string bin(const std::string& name);
[[nodiscard]] std::string text_of(const std::filesystem::path& file);
// Throws if the file does not say it within a minute.
void wait_text(const std::filesystem::path& file, const std::string& text);
// To its end; throws unless that is a success.
void run(const std::vector<std::string>& argv);

class Process {
 public:
  // With `pipes`, its standard input and output are this test's.
  Process(const std::vector<std::string>& argv, const std::vector<std::string>& env, const std::string& log,
          bool pipes = false);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void signal(int number) const;
  void kill();  // SIGKILL, and gone when it returns
  [[nodiscard]] bool alive();
  [[nodiscard]] pid_t pid() const { return pid_; }
  void write(const std::string& text) const;
  std::string read_line();  // fails the test after a minute

 private:
  pid_t pid_ = -1;
  int in_ = -1, out_ = -1;
  std::string partial_;
};

struct SgxHost {
  SgxHost(const std::string& name, const std::filesystem::path& dir);
  void start_agent();
  [[nodiscard]] std::string machine() const { return dir / "host.machine"; }
  [[nodiscard]] std::string agent_socket() const { return dir / "agent.sock"; }

  std::string name;
  std::filesystem::path dir;
  std::unique_ptr<Process> aesmd, agent;
};

}  // namespace sealift::guest_test
