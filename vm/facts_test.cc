#include "vm/facts.h"

#include <gtest/gtest.h>

#include "vm/convergence.h"
#include "vm/options.h"

namespace sealift::vm {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMiB = 1u << 20;

Facts some() {
  Facts facts;
  facts.run_state = "running";
  facts.machine = "pc-q35-7.2-machine";
  facts.cpu_type = "max-x86_64-cpu";
  facts.cpu_vendor = "AuthenticAMD 15 107 1";
  facts.features = {{7, 0, "EBX", 0x100}, {1, -1, "ECX", 0x3}};
  facts.cpus = 2;
  facts.ram_bytes = 512 * kMiB;
  facts.epc = {{"epc", 0x100000000, 64 * kMiB}};
  return facts;
}

std::string object_of(const std::optional<Problem>& problem) {
  return problem ? problem->what + ": " + problem->object : "";
}

TEST(Facts, AlikeIsAlike) {
  EXPECT_FALSE(unlike(some(), some(), 64 * kMiB));
}

TEST(Facts, WhatDiffersIsNamedWithBothValues) {
  const auto differ = [](auto change) {
    Facts there = some();
    change(there);
    return object_of(unlike(some(), there, 0));
  };
  EXPECT_EQ(differ([](Facts& f) { f.machine = "pc-i440fx-7.2-machine"; }),
            "machine types differ: pc-q35-7.2-machine here, pc-i440fx-7.2-machine there");
  EXPECT_EQ(differ([](Facts& f) { f.cpu_type = "qemu64-x86_64-cpu"; }),
            "CPU models differ: max-x86_64-cpu here, qemu64-x86_64-cpu there");
  EXPECT_EQ(differ([](Facts& f) { f.cpu_vendor = "GenuineIntel 6 143 8"; }),
            "CPUs differ: AuthenticAMD 15 107 1 here, GenuineIntel 6 143 8 there");
  EXPECT_EQ(differ([](Facts& f) { f.features[0].bits = 0x101; }),
            "CPU features differ: leaf 7H.0 EBX: 00000100 here, 00000101 there");
  EXPECT_EQ(differ([](Facts& f) { f.features.clear(); }),
            "CPU features differ: leaf 7H.0 EBX: 00000100 here, 00000000 there");
  EXPECT_EQ(differ([](Facts& f) { f.cpus = 4; }), "numbers of CPUs differ: 2 here, 4 there");
  EXPECT_EQ(differ([](Facts& f) { f.ram_bytes = kMiB / 2; }), "sizes of RAM differ: 512 MiB here, 0.5 MiB there");
  EXPECT_EQ(differ([](Facts& f) { f.epc.clear(); }), "numbers of EPC sections differ: 1 here, 0 there");
  EXPECT_EQ(differ([](Facts& f) { f.epc[0].size = 32 * kMiB; }), "EPC sections differ: 64 MiB here, 32 MiB there");
}

TEST(Facts, TooLittleEpcIsToldWithBothNumbers) {
  Facts there = some();
  there.epc[0].size = 32 * kMiB;
  EXPECT_EQ(object_of(unlike(some(), there, 48 * kMiB)),
            "EPC on the target is too small: the VM's enclaves need 48 MiB, its section there has 32 MiB");
}

TEST(Facts, FindsSectionsOfSoftwareAndOfSilicon) {
  const json devices = json::parse(R"([
      {"type": "nvdimm", "data": {"memdev": "/objects/epc", "addr": 4294967296, "size": 67108864}},
      {"type": "nvdimm", "data": {"memdev": "/objects/disk", "addr": 1, "size": 2}},
      {"type": "dimm", "data": {}}, 7])");
  EXPECT_EQ(epc_of(devices, json()), (std::vector<EpcSection>{{"epc", 0x100000000, 64 * kMiB}}));
  const json sgx =
      json::parse(R"({"sgx": true, "sections": [{"node": 0, "size": 1048576}, {"node": 1, "size": 2097152}]})");
  EXPECT_EQ(epc_of(json::array(), sgx), (std::vector<EpcSection>{{"node0", 0, kMiB}, {"node1", 0, 2 * kMiB}}));
  EXPECT_TRUE(epc_of(json("nonsense"), json(3)).empty());
}

TEST(Facts, OnlyARunningVmLeaves) {
  Facts facts = some();
  EXPECT_FALSE(cannot_leave(facts, "web"));
  facts.run_state = "paused";
  EXPECT_TRUE(cannot_leave(facts, "web"));
  facts = some();
  facts.migration = "active";
  ASSERT_TRUE(cannot_leave(facts, "web"));
  EXPECT_EQ(cannot_leave(facts, "web")->kind, Problem::Kind::kBusy);
  facts.migration = "cancelled";
  EXPECT_FALSE(cannot_leave(facts, "web"));
}

TEST(Facts, OnlyAWaitingQemuReceives) {
  Facts facts = some();
  EXPECT_TRUE(cannot_receive(facts, "web"));
  facts.run_state = "inmigrate";
  EXPECT_FALSE(cannot_receive(facts, "web"));
  facts.migration = "active";
  ASSERT_TRUE(cannot_receive(facts, "web"));
  EXPECT_EQ(cannot_receive(facts, "web")->kind, Problem::Kind::kBusy);
}

TEST(Options, OddOnesAreRefused) {
  EXPECT_FALSE(invalid(MoveOptions{}));
  MoveOptions options;
  options.compress = "lzma";
  EXPECT_TRUE(invalid(options));
  options = {};
  options.bandwidth = 9;  // QEMU would take it for no limit
  EXPECT_TRUE(invalid(options));
  options = {};
  options.downtime_limit = std::chrono::milliseconds(0);
  EXPECT_TRUE(invalid(options));
  options = {};
  options.multifd = 256;
  EXPECT_TRUE(invalid(options));
}

TEST(Options, BothSidesLeaveSharedMemoryBehindAndWait) {
  const std::vector<QmpCommand> commands = set_up_both(MoveOptions{});
  ASSERT_EQ(commands.size(), 1u);
  std::map<std::string, bool> set;
  for (const json& each : commands[0].arguments["capabilities"]) set[each["capability"]] = each["state"];
  EXPECT_TRUE(set.at("x-ignore-shared") && set.at("pause-before-switchover") && set.at("return-path"));
  EXPECT_FALSE(set.at("multifd"));
  MoveOptions compressed;
  compressed.compress = "zstd";
  EXPECT_EQ(set_up_both(compressed).size(), 2u);
}

// In the first pass, where all that is dealt with is sent.
Progress at(std::uint64_t remaining, std::uint64_t sent) {
  return {.remaining = remaining, .dealt = sent, .sent = sent, .passes = 1};
}

TEST(Convergence, WaitsWhileThereIsMuchAndActsInTime) {
  Convergence slow(0);
  EXPECT_FALSE(slow.near_end(0, {})) << "nothing counted yet";
  // 100 MiB/s, asked every 10 ms: some polls are left when it acts.
  double now = 0;
  std::uint64_t remaining = 512 * kMiB;
  while (!slow.near_end(now, at(remaining, 512 * kMiB - remaining))) {
    ASSERT_GT(remaining, kMiB);
    now += 0.01;
    remaining -= kMiB;
  }
  EXPECT_LE(remaining, 24 * kMiB);
  EXPECT_GT(remaining, 20 * kMiB);
  // Ten times as fast: earlier.
  Convergence fast(0);
  EXPECT_FALSE(fast.near_end(0, at(1024 * kMiB, 0)));
  EXPECT_FALSE(fast.near_end(0.01, at(1014 * kMiB, 10 * kMiB)));
  EXPECT_TRUE(fast.near_end(0.9, at(110 * kMiB, 914 * kMiB)));
}

TEST(Convergence, TheCheckpointIsForeseenByTheOneBefore) {
  EXPECT_DOUBLE_EQ(foreseen_checkpoint(64, 0.1, 0), 1.2) << "the first: by what it took to prepare it";
  EXPECT_DOUBLE_EQ(foreseen_checkpoint(64, 10, 0), 1.92) << "not more than so much each";
  EXPECT_DOUBLE_EQ(foreseen_checkpoint(1000, 10, 0), 2) << "and not more in all";
  EXPECT_DOUBLE_EQ(foreseen_checkpoint(64, 10, 0.8), 1.92) << "zeros that nobody foresees leave less time";
  EXPECT_DOUBLE_EQ(foreseen_checkpoint(64, 0.1, 3.2), 4) << "longer than was thought at first";
  EXPECT_DOUBLE_EQ(foreseen_checkpoint(1, 1, 1e9), 10) << "a guest that reports anything";
  EXPECT_DOUBLE_EQ(foreseen_checkpoint(0, 1, 0), 0);
}

TEST(Convergence, WhatIsDoneMeanwhileBeginsInTime) {
  Convergence convergence(0);
  EXPECT_FALSE(convergence.within(1e9)) << "nothing known";
  EXPECT_FALSE(convergence.near_end(0, at(1000 * kMiB, 0)));
  EXPECT_FALSE(convergence.within(1e9)) << "no speed yet";
  EXPECT_FALSE(convergence.near_end(1, at(900 * kMiB, 100 * kMiB)));
  EXPECT_FALSE(convergence.within(8.7));
  EXPECT_TRUE(convergence.within(8.8));
  // At the speed of all of it, not of the fastest stretch.
  EXPECT_FALSE(convergence.near_end(1.5, at(500 * kMiB, 500 * kMiB)));
  EXPECT_FALSE(convergence.within(1.37));
  EXPECT_TRUE(convergence.within(1.39));
}

// A stretch of zeros goes by at the speed of memory: it may be over at once, but if it is not there is time again.
TEST(Convergence, ZerosUnderABandwidthLimit) {
  Convergence limited(100 * kMiB);
  EXPECT_FALSE(limited.near_end(0, {1000 * kMiB, 0 * kMiB, 0 * kMiB, 0, 1}));
  // What a tenth of a second allows is sent in some milliseconds, and tells nothing.
  EXPECT_FALSE(limited.near_end(0.01, {990 * kMiB, 10 * kMiB, 0 * kMiB, 10 * kMiB, 1}));
  EXPECT_FALSE(limited.near_end(1, {890 * kMiB, 110 * kMiB, 0 * kMiB, 110 * kMiB, 1}));
  EXPECT_TRUE(limited.near_end(1.01, {500 * kMiB, 500 * kMiB, 390 * kMiB, 110 * kMiB, 1}));
  EXPECT_TRUE(limited.zeros_may_go());
  EXPECT_FALSE(limited.too_early()) << "as long as there are zeros, there may be only zeros";
  EXPECT_FALSE(limited.near_end(1.2, {499 * kMiB, 501 * kMiB, 390 * kMiB, 111 * kMiB, 1}));
  EXPECT_TRUE(limited.too_early());
  EXPECT_TRUE(limited.near_end(6, {20 * kMiB, 980 * kMiB, 390 * kMiB, 590 * kMiB, 1}));
  EXPECT_FALSE(limited.zeros_may_go());
  EXPECT_FALSE(limited.too_early());
  EXPECT_TRUE(limited.near_end(6.1, {200 * kMiB, 1000 * kMiB, 390 * kMiB, 610 * kMiB, 2}));
  EXPECT_FALSE(limited.zeros_may_go());
  EXPECT_FALSE(limited.too_early());
}

// A balloon tells which pages are free: what remains falls, and nothing went by.
TEST(Convergence, FreePagesAreNoSpeed) {
  Convergence convergence(0);
  EXPECT_FALSE(convergence.near_end(0, at(1000 * kMiB, 0)));
  EXPECT_FALSE(convergence.near_end(0.1, at(990 * kMiB, 10 * kMiB)));
  EXPECT_FALSE(convergence.near_end(0.2, at(300 * kMiB, 20 * kMiB)));
  EXPECT_FALSE(convergence.within(2.7));
  EXPECT_TRUE(convergence.within(2.8));
}

// The first tenth of a second's bytes leave at once.
TEST(Convergence, TheFirstBurstIsNoSpeed) {
  Convergence limited(100 * kMiB);
  EXPECT_FALSE(limited.near_end(0, at(1000 * kMiB, 0)));
  EXPECT_FALSE(limited.near_end(0.008, at(990 * kMiB, 10 * kMiB)));
  EXPECT_FALSE(limited.within(2));
  EXPECT_FALSE(limited.near_end(0.2, at(960 * kMiB, 40 * kMiB)));
  EXPECT_FALSE(limited.within(9.3));
  EXPECT_TRUE(limited.within(9.4));
  // Nor is it one where a network limits, which nobody has told of, and a socket's buffer.
  Convergence unlimited(0);
  EXPECT_FALSE(unlimited.near_end(0, at(1000 * kMiB, 0)));
  EXPECT_FALSE(unlimited.near_end(0.008, at(990 * kMiB, 10 * kMiB)));
  EXPECT_FALSE(unlimited.within(2));
}

// Memory that was never used is passed over in no time, wherever it lies.
TEST(Convergence, UntouchedMemoryIsNoWork) {
  Convergence convergence(0, 400 * kMiB);
  EXPECT_FALSE(convergence.near_end(0, at(1000 * kMiB, 0)));
  EXPECT_FALSE(convergence.near_end(1, at(900 * kMiB, 100 * kMiB)));
  EXPECT_FALSE(convergence.within(4.7));
  EXPECT_TRUE(convergence.within(4.8));
  // Half of it goes by.
  EXPECT_FALSE(convergence.near_end(2, {600 * kMiB, 400 * kMiB, 200 * kMiB, 200 * kMiB, 1}));
  EXPECT_FALSE(convergence.within(3.7));
  EXPECT_TRUE(convergence.within(3.8));
  // Zeros among other pages are data, and will be as many in the rest.
  EXPECT_FALSE(convergence.near_end(3, {400 * kMiB, 600 * kMiB, 220 * kMiB, 380 * kMiB, 1}));
  EXPECT_FALSE(convergence.within(1.3));
  EXPECT_TRUE(convergence.within(1.4));
  // The guest's word is not believed beyond what there is.
  Convergence liar(0, ~std::uint64_t{0});
  EXPECT_FALSE(liar.near_end(0, at(1000 * kMiB, 0)));
  EXPECT_FALSE(liar.near_end(1, at(900 * kMiB, 100 * kMiB)));
  EXPECT_TRUE(liar.within(0));
}

// Under a limit, zeros that were foretold are not the end, however fast they go by; more of them may be. QEMU is held
// off all the same.
TEST(Convergence, ForetoldZerosAreNotTheEnd) {
  Convergence limited(100 * kMiB, 400 * kMiB);
  EXPECT_FALSE(limited.ending());
  EXPECT_FALSE(limited.near_end(0, {1000 * kMiB, 0 * kMiB, 0 * kMiB, 0, 1}));
  EXPECT_FALSE(limited.near_end(2, {800 * kMiB, 200 * kMiB, 0 * kMiB, 200 * kMiB, 1}));
  EXPECT_FALSE(limited.ending());
  EXPECT_TRUE(limited.near_end(2.01, {500 * kMiB, 500 * kMiB, 300 * kMiB, 200 * kMiB, 1}));
  EXPECT_FALSE(limited.ending()) << "400 MiB of work are left";
  EXPECT_FALSE(limited.near_end(4.5, {250 * kMiB, 750 * kMiB, 300 * kMiB, 450 * kMiB, 1}));
  EXPECT_FALSE(limited.ending());
  EXPECT_TRUE(limited.near_end(4.51, {150 * kMiB, 850 * kMiB, 400 * kMiB, 450 * kMiB, 1}));
  EXPECT_TRUE(limited.ending()) << "all that were foretold have gone by";
  // The work without them comes to its end as it would without zeros.
  Convergence at_last(100 * kMiB, 400 * kMiB);
  EXPECT_FALSE(at_last.near_end(0, {1000 * kMiB, 0 * kMiB, 0 * kMiB, 0, 1}));
  EXPECT_FALSE(at_last.near_end(5, {450 * kMiB, 550 * kMiB, 0 * kMiB, 550 * kMiB, 1}));
  EXPECT_FALSE(at_last.ending());
  EXPECT_FALSE(at_last.near_end(5.3, {420 * kMiB, 580 * kMiB, 0 * kMiB, 580 * kMiB, 1}));
  EXPECT_TRUE(at_last.ending());
  EXPECT_TRUE(at_last.near_end(6, {900 * kMiB, 1000 * kMiB, 400 * kMiB, 600 * kMiB, 2}));
  EXPECT_TRUE(at_last.ending());
}

TEST(Convergence, ASecondPassIsNearTheEnd) {
  Convergence convergence(0);
  EXPECT_TRUE(convergence.near_end(0, {.remaining = 512 * kMiB, .passes = 2}));
}

}  // namespace
}  // namespace sealift::vm
