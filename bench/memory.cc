// Dump and restore of non-zero pages, against AES-256-GCM of the same library over as many bytes and against memcpy.
#include "bench/figure.h"
#include "bench/reference.h"
#include "bench/suite.h"

namespace sealift::bench {
namespace {

struct Series {
  std::vector<double> inside, all, cipher, copy, ratio, ratio_all, copy_ratio;

  void add(double inside_ns, double all_ns, double cipher_ns, double copy_ns) {
    inside.push_back(inside_ns);
    all.push_back(all_ns);
    cipher.push_back(cipher_ns);
    copy.push_back(copy_ns);
    ratio.push_back(cipher_ns / inside_ns);
    ratio_all.push_back(cipher_ns / all_ns);
    copy_ratio.push_back(copy_ns / inside_ns);
  }
};

// Throughput ratios: times of the reference over the enclave's, per byte. The stream is the ballast and a little more
// (image, stacks), so the enclave does somewhat more work than the reference; that is left as it is.
void report(const Options& options, const std::string& what, const Series& s, std::uint64_t bytes) {
  const auto rate = [&](double ns) { return static_cast<double>(bytes) / ns; };
  const Sample ratio = summarize(s.ratio), all = summarize(s.ratio_all), copy = summarize(s.copy_ratio);
  const Sample inside = summarize(s.inside), cipher = summarize(s.cipher), plain = summarize(s.copy);
  const nlohmann::ordered_json raw{{"spread", ratio.spread},
                                   {"repetitions", s.ratio.size()},
                                   {"bytes", bytes},
                                   {"with_host_copy_ratio", all.median},
                                   {"enclave_gb_per_s", rate(inside.median)},
                                   {"enclave_best_gb_per_s", rate(inside.best)},
                                   {"aes_gcm_gb_per_s", rate(cipher.median)},
                                   {"aes_gcm_best_gb_per_s", rate(cipher.best)},
                                   {"best_ratio", cipher.best / inside.best},
                                   {"memcpy_gb_per_s", rate(plain.median)}};
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
  lab::LabMachine a("512M"), b("512M");
  Source source(a, "bench_memory");
  source.fill(bytes);
  Reference reference(bytes);
  Series dump, restore;
  for (int i = 0; i < repetitions; ++i) {
    const bool first = i % 2 == 0;  // who goes first alternates
    lab::Peer target(b);
    const auto migration = source.prepare(b, &target);
    double seal = first ? reference.seal() : 0;
    double copy = first ? reference.copy() : 0;
    const DumpTimes d = source.dump();
    if (!first) {
      seal = reference.seal();
      copy = reference.copy();
    }
    dump.add(static_cast<double>(d.inside_ns), static_cast<double>(d.all_ns - d.quiesce_ns), seal, copy);
    double open = first ? reference.open() : 0;
    const FeedTimes f = source.feed(target, d.bytes);
    if (!first) open = reference.open();
    restore.add(static_cast<double>(f.inside_ns), static_cast<double>(f.all_ns), open, copy);
    source.cancel();
  }
  report(options, "dump", dump, bytes);
  report(options, "restore", restore, bytes);
}

}  // namespace sealift::bench
