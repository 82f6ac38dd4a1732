// What an ecall costs on softsgx when ENCLU is patched, against one that takes its two exceptions.
#include "bench/figure.h"
#include "bench/suite.h"

namespace sealift::bench {

void measure_entries(const Options& options) {
  if (!wanted(options, {"ecall_trapped_vs_patched"})) return;
  const int repetitions = options.smoke ? 50 : 2000;
  const OnOneCpu pinned;
  lab::LabMachine machine("384M");
  lab::Peer patched(machine), trapped(machine, {"--trap-enclu"});
  for (lab::Peer* p : {&patched, &trapped}) {
    must(p->build("bench_moving"), "building", *p);
    must(p->start(), "starting", *p);
  }
  std::vector<double> with, without;
  for (int i = 0; i < repetitions; ++i) {
    with.push_back(static_cast<double>(run_nothing(patched).ns));
    without.push_back(static_cast<double>(run_nothing(trapped).ns));
  }
  const Sample fast = summarize(with), slow = summarize(without);
  print({"ecall_trapped_vs_patched",
         slow.median / fast.median,
         "the same ecall, which does nothing, with ENCLU patched",
         "",
         {{"spread", slow.spread},
          {"repetitions", repetitions},
          {"trapped_us", slow.median / 1e3},
          {"patched_us", fast.median / 1e3},
          {"best_trapped_us", slow.best / 1e3},
          {"best_patched_us", fast.best / 1e3}}},
        options.json);
}

}  // namespace sealift::bench
