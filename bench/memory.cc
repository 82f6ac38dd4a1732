// Dump and restore of non-zero pages, against AES-256-GCM of the same library over as many bytes and against memcpy.
#include "bench/figure.h"
#include "bench/reference.h"
#include "bench/suite.h"

namespace sealift::bench {
namespace {

struct Series {
  std::vector<double> inside, cipher, plain, ratio, copied_ratio, wall_ratio, memcpy_ratio;
};

template <typename Times>
void add(Series& s, const Times& t, const Reference::Times& cipher, const Reference::Times& plain) {
  const auto cpu = static_cast<double>(t.inside_cpu_ns);
  s.inside.push_back(cpu);
  s.cipher.push_back(cipher.cpu_ns);
  s.plain.push_back(plain.cpu_ns);
  s.ratio.push_back(cipher.cpu_ns / cpu);
  s.copied_ratio.push_back(cipher.cpu_ns / static_cast<double>(t.copied_cpu_ns));
  s.wall_ratio.push_back(cipher.ns / static_cast<double>(t.inside_ns));
  s.memcpy_ratio.push_back(plain.cpu_ns / cpu);
}

// Throughput ratios, by the CPU time of the one thread that works: a machine that does other things too does not change
// it much. The stream is the ballast and a little more (image, stacks), so the enclave does somewhat more work than the
// reference; that is left as it is.
void report(const Options& options, const std::string& what, const Series& s, std::uint64_t bytes,
            std::uint64_t pages) {
  const auto rate = [&](double ns) { return static_cast<double>(bytes) / ns; };
  const Sample ratio = summarize(s.ratio), copy = summarize(s.memcpy_ratio);
  const Sample inside = summarize(s.inside), cipher = summarize(s.cipher), plain = summarize(s.plain);
  const nlohmann::ordered_json raw{{"spread", ratio.spread},
                                   {"repetitions", s.ratio.size()},
                                   {"bytes", bytes},
                                   {"bytes_in_checkpoint", pages * sgx::kPageSize},
                                   {"enclave_gb_per_s", rate(inside.median)},
                                   {"aes_gcm_gb_per_s", rate(cipher.median)},
                                   {"best_against_best", cipher.best / inside.best},
                                   {"with_host_copy_ratio", summarize(s.copied_ratio).median},
                                   {"wall_clock_ratio", summarize(s.wall_ratio).median}};
  print(
      {what + "_vs_aes_gcm", ratio.median, "AES-256-GCM of intel-ipsec-mb, memory to memory, same run", ">= 0.80", raw},
      options.json);
  print({what + "_vs_memcpy",
         copy.median,
         "memcpy of as many bytes, same run",
         "",
         {{"spread", copy.spread}, {"enclave_gb_per_s", rate(inside.median)}, {"memcpy_gb_per_s", rate(plain.median)}}},
        options.json);
}

}  // namespace

void measure_memory(const Options& options) {
  if (!wanted(options, {"dump_vs_aes_gcm", "dump_vs_memcpy", "restore_vs_aes_gcm", "restore_vs_memcpy"})) return;
  const std::uint64_t bytes = std::uint64_t{options.smoke ? 16u : 256u} << 20;
  const int repetitions = options.smoke ? 2 : 7;
  const OnOneCpu pinned;
  lab::LabMachine a("512M"), b("512M");
  Source source(a, "bench_memory");
  source.fill(bytes);
  Reference reference(bytes);
  Series dump, restore;
  for (int i = 0; i < repetitions; ++i) {
    const bool first = i % 2 == 0;  // who goes first alternates
    lab::Peer target(b);
    const auto migration = source.prepare(b, &target);
    Reference::Times seal{}, open{}, copy{};
    if (first) {
      seal = reference.seal();
      copy = reference.copy();
    }
    const DumpTimes d = source.dump();
    if (!first) {
      seal = reference.seal();
      copy = reference.copy();
    }
    add(dump, d, seal, copy);
    if (first) open = reference.open();
    const FeedTimes f = source.feed(target, d.bytes);
    if (!first) open = reference.open();
    add(restore, f, open, copy);
    source.cancel();
  }
  const std::uint64_t pages = source.peer.status().pages_in_use;
  report(options, "dump", dump, bytes, pages);
  report(options, "restore", restore, bytes, pages);
}

}  // namespace sealift::bench
