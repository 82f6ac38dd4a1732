// kv-writer: a client that writes all the time, remembers what was acknowledged, and at the end asks for all of it.
//
//   kv-writer ADDRESS:PORT load N            N keys, pipelined
//   kv-writer ADDRESS:PORT check N           are they all there?
//   kv-writer ADDRESS:PORT write CONNECTIONS until SIGTERM; then verifies. Prints one JSON object
//
// Exit: 0 nothing lost, 1 something was, 2 usage. A connection that breaks is made again, for up to 30 s.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kGiveUpSeconds = 30;
constexpr int kKeysPerConnection = 500;

sockaddr_in server{};
std::atomic<bool> stop{false};

class Connection {
 public:
  ~Connection() { drop(); }
  [[nodiscard]] bool open() {
    drop();
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int one = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return connect(fd_, reinterpret_cast<const sockaddr*>(&server), sizeof server) == 0;
  }
  // Tries again and again; between two tries it waits for nothing in particular, hence poll() without descriptors.
  [[nodiscard]] bool reopen() {
    const auto until = Clock::now() + std::chrono::seconds(kGiveUpSeconds);
    while (!open()) {
      if (Clock::now() > until) return false;
      poll(nullptr, 0, 10);
    }
    return true;
  }
  [[nodiscard]] bool send_all(const std::string& text) const {
    std::size_t done = 0;
    while (done < text.size()) {
      const ssize_t n = send(fd_, text.data() + done, text.size() - done, MSG_NOSIGNAL);
      if (n <= 0) return false;
      done += static_cast<std::size_t>(n);
    }
    return true;
  }
  // One line without its end; false when the connection broke.
  [[nodiscard]] bool line(std::string& out) {
    for (;;) {
      const std::size_t end = buffer_.find("\r\n");
      if (end != std::string::npos) {
        out = buffer_.substr(0, end);
        buffer_.erase(0, end + 2);
        return true;
      }
      char chunk[16384];
      const ssize_t n = recv(fd_, chunk, sizeof chunk, 0);
      if (n <= 0) return false;
      buffer_.append(chunk, static_cast<std::size_t>(n));
    }
  }

 private:
  void drop() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
    buffer_.clear();
  }
  int fd_ = -1;
  std::string buffer_;
};

std::string loaded_key(int i) {
  return "loaded:" + std::to_string(i);
}

int load(int n) {
  constexpr int kBatch = 500;
  Connection c;
  if (!c.reopen()) return 1;
  std::string reply;
  for (int done = 0; done < n; done += kBatch) {
    const int end = done + kBatch < n ? done + kBatch : n;
    std::string batch;
    for (int i = done; i < end; ++i) batch += "SET " + loaded_key(i) + " " + std::to_string(i * 7) + "\r\n";
    if (!c.send_all(batch)) return 1;
    for (int i = done; i < end; ++i) {
      if (!c.line(reply) || reply != "+OK") return 1;
    }
  }
  return 0;
}

// The value of `key`, or nothing when there is none. False: the connection broke.
bool get_once(Connection& c, const std::string& key, std::string& value) {
  std::string reply;
  if (!c.send_all("GET " + key + "\r\n") || !c.line(reply)) return false;
  if (reply == "$-1") {
    value.clear();
    return true;
  }
  return !reply.empty() && reply[0] == '$' && c.line(value);
}

// The same, over as many connections as it takes: a program that is being taken over closes those it has.
bool get(Connection& c, const std::string& key, std::string& value) {
  const auto until = Clock::now() + std::chrono::seconds(kGiveUpSeconds);
  while (!get_once(c, key, value)) {
    if (Clock::now() > until || !c.reopen()) return false;
  }
  return true;
}

int check(int n) {
  Connection c;
  if (!c.reopen()) return 1;
  int lost = 0;
  std::string value;
  for (int i = 0; i < n; ++i) {
    if (!get(c, loaded_key(i), value)) return 1;
    if (value != std::to_string(i * 7)) ++lost;
  }
  std::printf("%d of %d loaded keys are there\n", n - lost, n);
  return lost == 0 ? 0 : 1;
}

struct Writer {
  std::map<std::string, long> acknowledged;
  long acks = 0, reconnects = 0;
  double longest_stall_ms = 0;
  bool gave_up = false;

  void run(int id) {
    Connection c;
    bool connected = c.reopen();
    auto last = Clock::now();
    std::string reply;
    for (long version = 1; connected && !stop.load(); ++version) {
      const std::string key = "written:" + std::to_string(id) + ":" + std::to_string(version % kKeysPerConnection);
      if (c.send_all("SET " + key + " " + std::to_string(version) + "\r\n") && c.line(reply) && reply == "+OK") {
        acknowledged[key] = version;
        ++acks;
        const auto now = Clock::now();
        longest_stall_ms = std::max(longest_stall_ms, std::chrono::duration<double, std::milli>(now - last).count());
        last = now;
      } else {
        ++reconnects;
        connected = c.reopen();
      }
    }
    gave_up = !connected;
  }

  // A later version than the acknowledged one is fine: its answer was lost, not the write.
  [[nodiscard]] long lost() const {
    Connection c;
    long n = 0;
    bool connected = c.reopen();
    std::string value;
    for (const auto& [key, version] : acknowledged) {
      connected = connected && get(c, key, value);
      if (!connected || value.empty() || std::atol(value.c_str()) < version) ++n;
    }
    return n;
  }
};

int write_until_told(int connections) {
  sigset_t end;
  sigemptyset(&end);
  sigaddset(&end, SIGTERM);
  sigaddset(&end, SIGINT);
  pthread_sigmask(SIG_BLOCK, &end, nullptr);
  std::vector<Writer> writers(static_cast<std::size_t>(connections));
  std::vector<std::thread> threads;
  for (int i = 0; i < connections; ++i) threads.emplace_back([&, i] { writers[static_cast<std::size_t>(i)].run(i); });
  std::printf("writing\n");
  std::fflush(stdout);
  int signal = 0;
  sigwait(&end, &signal);
  stop = true;
  long acks = 0, lost = 0, reconnects = 0;
  double stall = 0;
  bool gave_up = false;
  for (std::size_t i = 0; i < writers.size(); ++i) {
    threads[i].join();
    acks += writers[i].acks;
    lost += writers[i].lost();
    reconnects += writers[i].reconnects;
    stall = std::max(stall, writers[i].longest_stall_ms);
    gave_up = gave_up || writers[i].gave_up;
  }
  std::printf("{\"acknowledged\": %ld, \"lost\": %ld, \"reconnects\": %ld, \"longest_stall_ms\": %.1f}\n", acks, lost,
              reconnects, stall);
  return lost == 0 && !gave_up && acks > 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: kv-writer ADDRESS:PORT load|check|write N\n");
    return 2;
  }
  const std::string address = argv[1], what = argv[2];
  const std::size_t colon = address.rfind(':');
  const int n = std::atoi(argv[3]);
  server.sin_family = AF_INET;
  if (colon == std::string::npos || n <= 0 ||
      inet_pton(AF_INET, address.substr(0, colon).c_str(), &server.sin_addr) != 1) {
    std::fprintf(stderr, "kv-writer: %s: not an ADDRESS:PORT, or N is not a number\n", argv[1]);
    return 2;
  }
  server.sin_port = htons(static_cast<std::uint16_t>(std::atoi(address.c_str() + colon + 1)));
  if (what == "load") return load(n);
  if (what == "check") return check(n);
  if (what == "write") return write_until_told(n);
  std::fprintf(stderr, "kv-writer: unknown order '%s'\n", argv[2]);
  return 2;
}
