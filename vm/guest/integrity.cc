// vm-integrity: proves that a migration loses none of a guest's memory writes.
//
// Fills memory, then for ever takes a page, verifies every word of it and writes it anew. Each page has a version; a
// word is a function of page, version and position. A lost write shows as an old word or an old version; versions that
// went back together with their pages show in their sum, which must equal the number of rewrites. (QEMU 7.2 under TCG
// loses writes with some RAM sizes: scripts/vm-run. With any size it can lose one page's last writes, rarely, on a
// machine that is overloaded: its TLB fill asks whether a page is clean before it takes the TLB's lock
// (accel/tcg/cputlb.c, tlb_set_page_full), so a pass over the dirty bitmap in between leaves an entry that marks
// nothing dirty. A moderate --rate makes that improbable and finds the first fault as well. KVM is not concerned.)
//
// Prints a line for every pass over the memory. Ends with SIGTERM: "clean" and status 0; at the first wrong word it
// says so and ends with status 1.
#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t kPageBytes = 4096, kWords = kPageBytes / sizeof(std::uint64_t);

volatile std::sig_atomic_t g_stop = 0;

// splitmix64's finaliser: neighbouring inputs give unrelated words.
constexpr std::uint64_t mix(std::uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

class Memory {
 public:
  explicit Memory(std::size_t pages) : words_(pages * kWords), versions_(pages) {
    for (std::size_t p = 0; p < pages; ++p) write(p);
  }
  [[nodiscard]] std::size_t pages() const { return versions_.size(); }

  // False, and a line, if a word of the page is not what was written last.
  [[nodiscard]] bool verify(std::size_t page) const {
    const std::uint64_t seed = mix(page << 32 ^ versions_[page]);
    for (std::size_t i = 0; i < kWords; ++i) {
      const std::uint64_t expected = mix(seed + i), found = words_[page * kWords + i];
      if (found == expected) continue;
      std::printf("integrity: CORRUPT: page %zu word %zu version %llu: found %016llx, expected %016llx\n", page, i,
                  static_cast<unsigned long long>(versions_[page]), static_cast<unsigned long long>(found),
                  static_cast<unsigned long long>(expected));
      return false;
    }
    return true;
  }
  void rewrite(std::size_t page) {
    ++versions_[page];
    write(page);
  }
  [[nodiscard]] bool versions_add_up(std::uint64_t rewrites) const {
    const std::uint64_t sum = std::accumulate(versions_.begin(), versions_.end(), std::uint64_t{0});
    if (sum == rewrites) return true;
    std::printf("integrity: CORRUPT: versions sum up to %llu after %llu rewrites\n",
                static_cast<unsigned long long>(sum), static_cast<unsigned long long>(rewrites));
    return false;
  }

 private:
  void write(std::size_t page) {
    const std::uint64_t seed = mix(page << 32 ^ versions_[page]);
    for (std::size_t i = 0; i < kWords; ++i) words_[page * kWords + i] = mix(seed + i);
  }
  std::vector<std::uint64_t> words_;
  std::vector<std::uint64_t> versions_;
};

// At most `rate` rewrites a second; 0: as many as it can.
void keep_to(std::uint64_t rate, std::uint64_t rewrites) {
  constexpr std::uint64_t kBatch = 32;
  if (rate == 0 || rewrites % kBatch != 0) return;
  std::this_thread::sleep_for(std::chrono::microseconds(1'000'000 * kBatch / rate));
}

bool run(Memory& memory, std::uint64_t rate) {
  std::uint64_t rewrites = 0, random = 1;
  for (std::uint64_t pass = 1; !g_stop; ++pass) {
    for (std::size_t n = 0; n < memory.pages() && !g_stop; ++n) {
      random = mix(random + n);
      // Every page once a pass in order, and as many at random: pages long written and pages just written.
      for (const std::size_t page : {n, static_cast<std::size_t>(random % memory.pages())}) {
        if (!memory.verify(page)) return false;
        memory.rewrite(page);
        keep_to(rate, ++rewrites);
      }
    }
    if (!memory.versions_add_up(rewrites)) return false;
    std::printf("integrity: pass %llu, %llu rewrites\n", static_cast<unsigned long long>(pass),
                static_cast<unsigned long long>(rewrites));
    std::fflush(stdout);
  }
  for (std::size_t page = 0; page < memory.pages(); ++page) {
    if (!memory.verify(page)) return false;
  }
  return memory.versions_add_up(rewrites);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Writes and verifies memory until SIGTERM");
  std::size_t mebibytes = 32;
  std::uint64_t rate = 0;
  app.add_option("--mib", mebibytes, "MiB of memory")->check(CLI::Range(1, 4096))->capture_default_str();
  app.add_option("--rate", rate, "At most so many pages written a second");
  CLI11_PARSE(app, argc, argv);
  struct sigaction action {};
  action.sa_handler = [](int) { g_stop = 1; };
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);

  Memory memory((mebibytes << 20) / kPageBytes);
  std::printf("integrity: watching %zu MiB\n", mebibytes);
  std::fflush(stdout);
  const bool clean = run(memory, rate);
  if (clean) std::printf("integrity: clean\n");
  return clean ? EXIT_SUCCESS : EXIT_FAILURE;
}
