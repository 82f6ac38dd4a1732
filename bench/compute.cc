// Steady state: compute kernels in an enclave that may migrate, against the same code in one that may not.
#include <cmath>
#include <map>

#include "bench/figure.h"
#include "bench/suite.h"

namespace sealift::bench {
namespace {

constexpr const char* kNames[] = {"sort", "hash_table", "matrix", "sha256", "deflate", "nbody", "allocate"};
static_assert(std::size(kNames) == static_cast<std::size_t>(workload::Kernel::kCount));

struct Series {
  std::vector<double> ratio, ratio_cpu, ms;
};

Series compare(lab::Peer& moving, lab::Peer& fixed, workload::Kernel kernel, std::uint32_t size, int repetitions) {
  Series s;
  static_cast<void>(run_kernel(moving, kernel, size));  // the heap's first touch is nobody's
  static_cast<void>(run_kernel(fixed, kernel, size));
  for (int i = 0; i < repetitions; ++i) {
    CallTimes with, without;
    if (i % 2 == 0) {
      with = run_kernel(moving, kernel, size);
      without = run_kernel(fixed, kernel, size);
    } else {
      without = run_kernel(fixed, kernel, size);
      with = run_kernel(moving, kernel, size);
    }
    s.ratio.push_back(static_cast<double>(with.ns) / static_cast<double>(without.ns));
    s.ratio_cpu.push_back(static_cast<double>(with.cpu_ns) / static_cast<double>(without.cpu_ns));
    s.ms.push_back(static_cast<double>(with.ns) / 1e6);
  }
  return s;
}

}  // namespace

void measure_compute(const Options& options) {
  if (!wanted(options, {"steady_state_overhead"})) return;
  const int repetitions = options.smoke ? 2 : 31;
  const std::uint32_t size = options.smoke ? 4 : 64;
  const OnOneCpu pinned;
  lab::LabMachine machine("384M");
  lab::Peer moving(machine), fixed(machine);
  for (lab::Peer* p : {&moving, &fixed}) {
    must(p->build(p == &moving ? "bench_moving" : "bench_fixed"), "building", *p);
    must(p->start(), "starting", *p);
  }
  double log_sum = 0, log_cpu = 0;
  nlohmann::ordered_json kernels;
  for (std::size_t k = 0; k < std::size(kNames); ++k) {
    const Series s = compare(moving, fixed, static_cast<workload::Kernel>(k), size, repetitions);
    const Sample ratio = summarize(s.ratio), cpu = summarize(s.ratio_cpu);
    log_sum += std::log(ratio.median);
    log_cpu += std::log(cpu.median);
    kernels[kNames[k]] = {{"ratio", ratio.median},
                          {"spread", ratio.spread},
                          {"cpu_time_ratio", cpu.median},
                          {"milliseconds", summarize(s.ms).median}};
  }
  const auto n = static_cast<double>(std::size(kNames));
  print({"steady_state_overhead",
         std::exp(log_sum / n),
         "the same code in an enclave whose manifest forbids migration (geometric mean of time)",
         "<= 1.01",
         {{"cpu_time_ratio", std::exp(log_cpu / n)}, {"repetitions", repetitions}, {"kernels", kernels}}},
        options.json);
}

}  // namespace sealift::bench
