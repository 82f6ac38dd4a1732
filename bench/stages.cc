// A whole migration, phase by phase, by size of the enclave. The target is built and has its key before the gate
// closes; downtime is from there to the grant. The stream is not overlapped: dump, then restore.
#include <array>
#include <chrono>

#include "bench/figure.h"
#include "bench/reference.h"
#include "bench/suite.h"

namespace sealift::bench {
namespace {

enum Stage { kPrepare, kBuild, kQuiesce, kDump, kRestore, kCommit, kGrant, kStages };
constexpr const char* kNames[] = {"prepare_ms", "build_and_key_ms", "quiesce_ms", "dump_ms",
                                  "restore_ms", "commit_ms",        "grant_ms"};
static_assert(std::size(kNames) == kStages);
using Times = std::array<double, kStages>;

class Watch {
 public:
  double ms() {
    const auto now = std::chrono::steady_clock::now();
    const double passed = std::chrono::duration<double, std::milli>(now - last_).count();
    last_ = now;
    return passed;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

Times migrate(std::uint64_t bytes) {
  lab::LabMachine a("512M"), b("512M");
  Source source(a, "bench_memory");
  source.fill(bytes);
  lab::Peer target(b);
  Times t{};
  Watch watch;
  const auto migration = source.prepare(b, nullptr);
  t[kPrepare] = watch.ms();
  must(target.build("bench_memory", source.peer.base), "building the target", target);
  must(migration->meet(target), "the target's session", target);
  t[kBuild] = watch.ms();
  const DumpTimes d = source.dump();
  const FeedTimes f = source.feed(target, d.bytes);
  t[kQuiesce] = static_cast<double>(d.quiesce_ns) / 1e6;
  t[kDump] = static_cast<double>(d.all_ns - d.quiesce_ns) / 1e6;
  t[kRestore] = static_cast<double>(f.all_ns) / 1e6;
  watch.ms();
  must(migration->ready(target), "ready", target);
  must(migration->commit(), "commit", source.peer);
  t[kCommit] = watch.ms();
  must(migration->grant(target), "grant", target);
  t[kGrant] = watch.ms();
  const auto sum = target.call(workload::kChecksum);
  must(sum.error(), "the enclave on the target", target);
  return t;
}

void measure(const Options& options, std::uint64_t mib, int repetitions) {
  Reference reference(mib << 20);
  std::array<std::vector<double>, kStages> stages;
  std::vector<double> downtime, total, cipher;
  for (int i = 0; i < repetitions; ++i) {
    cipher.push_back((reference.seal().ns + reference.open().ns) / 1e6);
    const Times t = migrate(mib << 20);
    double down = 0;
    for (int s = 0; s < kStages; ++s) {
      stages[static_cast<std::size_t>(s)].push_back(t[static_cast<std::size_t>(s)]);
      if (s >= kQuiesce) down += t[static_cast<std::size_t>(s)];
    }
    downtime.push_back(down);
    total.push_back(down + t[kPrepare] + t[kBuild]);
  }
  const double reference_ms = summarize(cipher).median;
  nlohmann::ordered_json raw{{"repetitions", repetitions}, {"seal_and_open_ms", reference_ms}};
  for (std::size_t s = 0; s < kStages; ++s) raw[kNames[s]] = summarize(stages[s]).median;
  const std::string size = std::to_string(mib) + "M";
  const std::string against = "AES-256-GCM sealing and opening as many bytes";
  const Sample down = summarize(downtime), all = summarize(total);
  raw["downtime_ms"] = down.median;
  raw["spread"] = down.spread;
  print({"downtime_" + size, down.median / reference_ms, against, "", raw}, options.json);
  print({"total_" + size, all.median / reference_ms, against, "", {{"total_ms", all.median}, {"spread", all.spread}}},
        options.json);
}

}  // namespace

void measure_stages(const Options& options) {
  if (options.smoke && wanted(options, {"downtime_4M", "total_4M"})) measure(options, 4, 1);
  if (options.smoke) return;
  for (const std::uint64_t mib : {16u, 64u, 256u}) {
    const std::string size = std::to_string(mib) + "M";
    if (wanted(options, {("downtime_" + size).c_str(), ("total_" + size).c_str()})) measure(options, mib, 5);
  }
}

}  // namespace sealift::bench
