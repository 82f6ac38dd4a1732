// Stopping threads: the time to quiescence by their number, and threads that park against threads that spin inside.
#include "bench/figure.h"
#include "bench/suite.h"

namespace sealift::bench {
namespace {

constexpr std::uint32_t kMany = 64;

// Times of `repetitions` dumps of an enclave with `threads` busy threads.
std::vector<DumpTimes> dumps(const std::string& enclave, std::uint32_t threads, std::uint64_t bytes, int repetitions) {
  lab::LabMachine a("256M"), b("32M");
  Source source(a, enclave);
  if (bytes != 0) source.fill(bytes);
  must(source.peer.call(workload::kStartBusy, threads).error(), "starting threads", source.peer);
  std::vector<DumpTimes> all;
  for (int i = 0; i < repetitions; ++i) {
    const auto migration = source.prepare(b, nullptr);
    all.push_back(source.dump());
    source.cancel();
  }
  must(source.peer.call(workload::kStopBusy).error(), "stopping threads", source.peer);
  return all;
}

Sample quiesce_times(const std::vector<DumpTimes>& all) {
  std::vector<double> ns;
  for (const DumpTimes& d : all) ns.push_back(static_cast<double>(d.quiesce_ns));
  return summarize(ns);
}

Sample whole_times(const std::vector<DumpTimes>& all) {
  std::vector<double> ns;
  for (const DumpTimes& d : all) ns.push_back(static_cast<double>(d.all_ns));
  return summarize(ns);
}

}  // namespace

void measure_threads(const Options& options) {
  const int repetitions = options.smoke ? 2 : 15;
  const std::uint32_t many = options.smoke ? 8 : kMany;
  if (wanted(options, {"quiesce_64_vs_1"})) {
    const Sample one = quiesce_times(dumps("bench_threads", 1, 0, repetitions));
    const Sample more = quiesce_times(dumps("bench_threads", many, 0, repetitions));
    print({"quiesce_64_vs_1",
           more.median / one.median,
           "time to quiescence with one busy thread",
           "",
           {{"threads", many},
            {"milliseconds", more.median / 1e6},
            {"spread", more.spread},
            {"best_milliseconds", more.best / 1e6},
            {"one_thread_milliseconds", one.median / 1e6},
            {"one_thread_spread", one.spread},
            {"repetitions", repetitions}}},
          options.json);
  }
  if (wanted(options, {"quiesce_parked_vs_spinning"})) {
    const std::uint64_t bytes = std::uint64_t{options.smoke ? 4u : 64u} << 20;
    std::vector<DumpTimes> parked, spinning;
    for (int round = 0; round < (options.smoke ? 1 : 2); ++round) {  // alternated
      for (const DumpTimes& d : dumps("bench_threads", many, bytes, options.smoke ? 2 : 3)) parked.push_back(d);
      for (const DumpTimes& d : dumps("bench_spinning", many, bytes, options.smoke ? 1 : 2)) spinning.push_back(d);
    }
    const Sample p = whole_times(parked), s = whole_times(spinning);
    print({"quiesce_parked_vs_spinning",
           s.median / p.median,
           "the same enclave whose stopped threads spin inside, gate closing to end of dump",
           ">= 10",
           {{"threads", many},
            {"bytes", bytes},
            {"parked_milliseconds", p.median / 1e6},
            {"parked_spread", p.spread},
            {"spinning_milliseconds", s.median / 1e6},
            {"spinning_spread", s.spread},
            {"parked_quiesce_milliseconds", quiesce_times(parked).median / 1e6},
            {"spinning_quiesce_milliseconds", quiesce_times(spinning).median / 1e6}}},
          options.json);
  }
}

}  // namespace sealift::bench
