#include "softsgx/isa/machine.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <thread>

#include "softsgx/isa/test_support.h"

namespace softsgx::test {
namespace {

// Writes `bytes` at `offset` of a file.
void patch(const std::string& path, std::uint64_t offset, const std::string& bytes) {
  std::fstream f(path, std::ios::in | std::ios::out | std::ios::binary);
  f.seekp(static_cast<std::streamoff>(offset));
  f << bytes;
}

class MachineFileTest : public MachineTest {
 protected:
  // Opening must fail and say `why`, in one line.
  void expect_refused(const std::string& why, const OpenOptions& options = {}) {
    std::string error;
    EXPECT_EQ(Machine::open(file("machine"), options, error), nullptr);
    EXPECT_NE(error.find(why), std::string::npos) << error;
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  }
};

TEST_F(MachineFileTest, IsSparseAndPrivate) {
  const auto m = create("big", {.epc_bytes = 1u << 30, .cpusvn = {}, .xfrm_allowed = {}, .section_of = {}});
  struct stat st {};
  ASSERT_EQ(stat(file("big").c_str(), &st), 0);
  EXPECT_GT(st.st_size, 1 << 30);
  EXPECT_LT(st.st_blocks * 512, 1 << 20);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  EXPECT_EQ(m->epc_pages(), 1u << 18);
}

TEST_F(MachineFileTest, TwoMachinesHaveDifferentKeys) {
  const auto other = create("other");
  EXPECT_NE(std::memcmp(&machine_->fuses(), &other->fuses(), sizeof(Fuses)), 0);
}

TEST_F(MachineFileTest, ASecondOpenSeesTheSameMachine) {
  std::string error;
  const auto again = Machine::open(file("machine"), {}, error);
  ASSERT_NE(again, nullptr) << error;
  EXPECT_EQ(std::memcmp(&machine_->fuses(), &again->fuses(), sizeof(Fuses)), 0);
  machine_->page(3)[5] = std::byte{42};
  EXPECT_EQ(again->page(3)[5], std::byte{42});
}

TEST_F(MachineFileTest, FileOffsetIsWhereThePageIs) {
  machine_->page(7)[0] = std::byte{0x5a};
  char byte = 0;
  ASSERT_EQ(pread(machine_->fd(), &byte, 1, static_cast<off_t>(machine_->file_offset(7))), 1);
  EXPECT_EQ(byte, 0x5a);
  EXPECT_EQ(machine_->file_offset(0) % sgx::kPageSize, 0u);
}

TEST_F(MachineFileTest, RefusesBadMagic) {
  patch(file("machine"), 0, "x");
  expect_refused("not a machine file");
}

TEST_F(MachineFileTest, RefusesAnotherVersion) {
  patch(file("machine"), 8, "\x01");
  expect_refused("unknown file version");
}

TEST_F(MachineFileTest, RefusesABadChecksum) {
  patch(file("machine"), 100, "\xff\xfe\xfd");
  expect_refused("bad header checksum");
}

TEST_F(MachineFileTest, RefusesATruncatedFile) {
  ASSERT_EQ(truncate(file("machine").c_str(), 100 * 4096), 0);
  expect_refused("shorter than its header says");
}

TEST_F(MachineFileTest, RefusesAnEmptyFile) {
  ASSERT_EQ(truncate(file("machine").c_str(), 0), 0);
  expect_refused("too short");
}

TEST_F(MachineFileTest, RefusesASectionOutsideTheEpc) {
  expect_refused("section", {.file_offset = 0, .first = 256, .count = 1});
  expect_refused("section", {.file_offset = 0, .first = 200, .count = 57});
}

TEST_F(MachineFileTest, OpensAtAnOffset) {
  // As a guest does with /dev/mem: the machine is somewhere inside a larger device.
  const std::string blob = file("blob");
  std::filesystem::copy_file(file("machine"), file("copy"));
  std::ofstream(blob) << std::string(8192, '\0');
  std::ofstream(blob, std::ios::app) << std::ifstream(file("copy")).rdbuf();
  std::string error;
  const auto m = Machine::open(blob, {.file_offset = 8192, .first = 0, .count = kNotEpc}, error);
  ASSERT_NE(m, nullptr) << error;
  EXPECT_EQ(std::memcmp(&machine_->fuses(), &m->fuses(), sizeof(Fuses)), 0);
  EXPECT_EQ(m->file_offset(0), machine_->file_offset(0) + 8192);
  EXPECT_TRUE(m->allocate_run(4, Owner::self()));
}

// A device's mapping has its page tables from the start, and every process of a guest would pay for all of EPC.
TEST_F(MachineFileTest, MapsTheEpcThatIsUsed) {
  constexpr std::size_t kBytes = std::size_t{64} << 20;
  constexpr EpcIndex kPages = kBytes >> sgx::kPageShift;
  const std::string path = file("large");
  std::string error;
  const CreateOptions options{.epc_bytes = kBytes, .cpusvn = {}, .xfrm_allowed = {}, .section_of = {}};
  const auto m = Machine::create(path, options, error);
  ASSERT_NE(m, nullptr) << error;
  const auto mapped = [&] {
    std::size_t bytes = 0;
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      if (!line.ends_with(path)) continue;
      char* end = nullptr;
      const std::uint64_t from = std::strtoull(line.c_str(), &end, 16);
      bytes += std::strtoull(end + 1, nullptr, 16) - from;
    }
    return bytes;
  };
  const std::size_t before = mapped();
  EXPECT_GT(before, 0u);
  EXPECT_LT(before, kBytes / 8);
  m->page(kPages / 2)[0] = std::byte{1};
  EXPECT_LE(mapped(), before + (std::size_t{2} << 20));
  // Everything is where it belongs, also at the ends and over the borders of what is mapped at once.
  for (EpcIndex i = 0; i < kPages; i += 255) std::memcpy(m->page(i), &i, sizeof(i));
  const auto other = Machine::open(path, {}, error);
  ASSERT_NE(other, nullptr) << error;
  for (EpcIndex i = 0; i < kPages; i += 255) {
    EXPECT_EQ(std::memcmp(other->page(i), &i, sizeof(i)), 0) << i;
    EpcIndex found = 0;
    ASSERT_EQ(pread(m->fd(), &found, sizeof(found), static_cast<off_t>(m->file_offset(i))), ssize_t{sizeof(found)});
    EXPECT_EQ(found, i);
  }
}

TEST_F(MachineFileTest, RefusesAvx512WithoutAvx) {
  std::string error;
  const CreateOptions options{
      .epc_bytes = 4096, .cpusvn = {}, .xfrm_allowed = sgx::xfrm::kLegacy | sgx::xfrm::kAvx512, .section_of = {}};
  EXPECT_EQ(Machine::create(file("x"), options, error), nullptr);
  EXPECT_NE(error.find("XFRM"), std::string::npos);
}

TEST_F(MachineFileTest, DefaultXfrmIsWhatTheHostHas) {
  std::string error;
  const auto m =
      Machine::create(file("x"), {.epc_bytes = 4096, .cpusvn = {}, .xfrm_allowed = {}, .section_of = {}}, error);
  ASSERT_NE(m, nullptr) << error;
  EXPECT_EQ(m->xfrm_allowed() & sgx::xfrm::kLegacy, sgx::xfrm::kLegacy);
  EXPECT_EQ((m->xfrm_allowed() & sgx::xfrm::kAvx) != 0, __builtin_cpu_supports("avx") != 0);
}

TEST_F(MachineFileTest, ASectionFileHasItsPackagesKeysAndOwnEpc) {
  const auto section =
      create("section", {.epc_bytes = 16 * 4096, .cpusvn = {}, .xfrm_allowed = {}, .section_of = file("machine")});
  EXPECT_EQ(std::memcmp(&machine_->fuses(), &section->fuses(), sizeof(Fuses)), 0);
  EXPECT_EQ(machine_->report_keyid(), section->report_keyid());
  EXPECT_EQ(section->epc_pages(), 16u);
}

class AllocationTest : public MachineTest {
 protected:
  static constexpr EpcIndex kPart = 512;  // what one page table maps
};

TEST_F(AllocationTest, RunsAreAdjacentFirstFitAndDisjoint) {
  const Owner me = Owner::self();
  EXPECT_EQ(machine_->allocate_run(10, me), 0u);
  EXPECT_EQ(machine_->allocate_run(100, me), 10u);
  EXPECT_EQ(machine_->release(0, 10), 0u);
  EXPECT_EQ(machine_->allocate_run(11, me), 110u);
  EXPECT_EQ(machine_->allocate_run(10, me), 0u);
  EXPECT_EQ(machine_->usage().free, 256u - 121u);
}

TEST_F(AllocationTest, AProcessFillsPartsThatOthersLeaveAlone) {
  const auto mine =
      create("parts",
             {.epc_bytes = std::uint64_t{3 * kPart + 100} * 4096, .cpusvn = {}, .xfrm_allowed = {}, .section_of = {}});
  std::string error;
  const auto theirs = Machine::open(file("parts"), {}, error);
  ASSERT_NE(theirs, nullptr) << error;
  const Owner me = Owner::self();
  EXPECT_EQ(mine->allocate_run(10, me), 0u);
  EXPECT_EQ(theirs->allocate_run(10, me), kPart);
  EXPECT_EQ(mine->allocate_run(10, me), 10u);
  EXPECT_EQ(theirs->allocate_run(500, me), kPart + 10);
  EXPECT_EQ(mine->allocate_run(500, me), 2 * kPart);  // no longer fits into the first part
  EXPECT_EQ(theirs->allocate_run(100, me), 3 * kPart);
  EXPECT_EQ(theirs->allocate_run(492, me), 20u);  // no part is free any more
  EXPECT_EQ(mine->allocate_run(12, me), 3 * kPart - 12);
  EXPECT_EQ(mine->allocate_run(3, me), std::nullopt);
  EXPECT_EQ(mine->allocate_run(2, me), 2 * kPart - 2);
  EXPECT_EQ(mine->usage().free, 0u);
}

// As when a guest has moved: the section is empty, and everybody builds again what he had.
TEST_F(AllocationTest, AProcessComesBackToThePartsThatItKnows) {
  const auto mine = create(
      "again", {.epc_bytes = std::uint64_t{4 * kPart} * 4096, .cpusvn = {}, .xfrm_allowed = {}, .section_of = {}});
  std::string error;
  const auto theirs = Machine::open(file("again"), {}, error);
  ASSERT_NE(theirs, nullptr) << error;
  const Owner me = Owner::self();
  ASSERT_EQ(mine->allocate_run(kPart, me), 0u);
  ASSERT_EQ(theirs->allocate_run(kPart, me), kPart);
  ASSERT_EQ(mine->allocate_run(kPart, me), 2 * kPart);
  mine->page(0)[0] = mine->page(2 * kPart)[0] = theirs->page(kPart)[0] = std::byte{1};
  mine->power_cycle();
  EXPECT_EQ(theirs->allocate_run(kPart, me), kPart);
  EXPECT_EQ(mine->allocate_run(kPart, me), 2 * kPart);
  EXPECT_EQ(mine->allocate_run(kPart, me), 0u);
  EXPECT_EQ(theirs->allocate_run(kPart, me), 3 * kPart);
}

TEST_F(AllocationTest, ARunMayBeLongerThanAPart) {
  const auto m =
      create("long", {.epc_bytes = std::uint64_t{4096} * 4096, .cpusvn = {}, .xfrm_allowed = {}, .section_of = {}});
  EXPECT_EQ(m->allocate_run(700, Owner::self()), 0u);
  EXPECT_EQ(m->allocate_run(1, Owner::self()), 1024u);
}

TEST_F(AllocationTest, RefusesMoreThanThereIs) {
  EXPECT_FALSE(machine_->allocate_run(257, Owner::self()));
  EXPECT_FALSE(machine_->allocate_run(0, Owner::self()));
  EXPECT_TRUE(machine_->allocate_run(256, Owner::self()));
  EXPECT_FALSE(machine_->allocate_run(1, Owner::self()));
}

TEST_F(AllocationTest, ReleaseKeepsValidPages) {
  Enclave e(*machine_);
  EXPECT_EQ(machine_->release(e.secs, 1), 1u);
  ASSERT_TRUE(encls::eremove(*machine_, e.secs).ok());
  EXPECT_EQ(machine_->release(e.secs, 1), 0u);
  EXPECT_EQ(machine_->usage().free, 256u);
}

TEST_F(AllocationTest, ASectionStaysWithinItself) {
  std::string error;
  const auto section = Machine::open(file("machine"), {.file_offset = 0, .first = 100, .count = 20}, error);
  ASSERT_NE(section, nullptr) << error;
  EXPECT_EQ(section->allocate_run(20, Owner::self()), 100u);
  EXPECT_FALSE(section->allocate_run(1, Owner::self()));
  EXPECT_FALSE(section->is_epc(99));
  EXPECT_TRUE(section->is_epc(119));
  EXPECT_FALSE(section->is_epc(120));
  section->release(0, 256);
  EXPECT_EQ(section->usage().free, 20u);
}

TEST_F(AllocationTest, ProcessesShareTheEpcWithoutOverlap) {
  constexpr int kChildren = 4, kRuns = 8;
  for (int i = 0; i < kChildren; ++i) {
    if (fork() == 0) {
      std::string error;
      const auto m = Machine::open(file("machine"), {}, error);
      for (int n = 0; n < kRuns; ++n) {
        const auto run = m->allocate_run(3, Owner::self());
        if (!run) _exit(1);
        for (EpcIndex p = *run; p < *run + 3; ++p) {  // any page handed out twice is seen as not zero
          if (m->page(p)[0] != std::byte{0}) _exit(2);
          m->page(p)[0] = std::byte{1};
        }
      }
      pause();
    }
  }
  // All are alive until they are killed, so their pages cannot be reclaimed meanwhile.
  while (machine_->usage().free > 256 - kChildren * kRuns * 3) std::this_thread::yield();
  EXPECT_EQ(machine_->usage().processes, 4u);
  std::vector<Owner> owners;
  for (EpcIndex i = 0; i < 256; ++i) {
    const Owner& o = machine_->epcm(i).owner;
    if (o.pid != 0 && std::find(owners.begin(), owners.end(), o) == owners.end()) owners.push_back(o);
  }
  for (const Owner& o : owners) kill(static_cast<pid_t>(o.pid), SIGKILL);
  for (int i = 0; i < kChildren; ++i) {
    int status = 0;
    ASSERT_GT(wait(&status), 0);
    EXPECT_TRUE(WIFSIGNALED(status)) << "child found a page twice or no page: " << WEXITSTATUS(status);
  }
}

TEST_F(AllocationTest, APageOfAProcessKilledInsideAnEnclaveIsReclaimed) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  signing_key();  // made before the fork: key generation is slow
  const pid_t child = fork();
  if (child == 0) {
    std::string error;
    const auto m = Machine::open(file("machine"), {}, error);
    Enclave e(*m);
    e.add_layout();
    Thread t;
    const bool inside = e.init().ok() && t.enter(e).ok() && m->allocate_run(200, Owner::self()).has_value();
    // The worst moment: a leaf's lock is held as well.
    m->epcm(e.page(Enclave::kData)).state.fetch_or(epcm::kLocked);
    const char answer = inside ? 'y' : 'n';
    if (write(ready[1], &answer, 1) != 1) _exit(1);
    pause();
  }
  char answer = 0;
  ASSERT_EQ(read(ready[0], &answer, 1), 1);
  ASSERT_EQ(answer, 'y');
  EXPECT_EQ(machine_->usage().threads_inside, 1u);
  EXPECT_EQ(machine_->reclaim_dead(), 0u);
  EXPECT_FALSE(machine_->allocate_run(100, Owner::self()));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  // Allocation itself reclaims.
  EXPECT_TRUE(machine_->allocate_run(250, Owner::self()));
  EXPECT_EQ(machine_->usage().enclaves, 0u);
  close(ready[0]);
  close(ready[1]);
}

TEST_F(AllocationTest, AZombieIsDead) {
  const pid_t child = fork();
  if (child == 0) {
    std::string error;
    const auto m = Machine::open(file("machine"), {}, error);
    _exit(m->allocate_run(5, Owner::self()) ? 0 : 1);
  }
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(machine_->reclaim_dead(), 5u);
  waitpid(child, nullptr, 0);
}

TEST_F(AllocationTest, TheLockOfADeadHolderIsFree) {
  const pid_t child = fork();
  if (child == 0) {
    std::string error;
    const auto m = Machine::open(file("machine"), {}, error);
    struct flock request {};
    request.l_type = F_WRLCK;
    request.l_whence = SEEK_SET;
    request.l_len = 1;
    if (fcntl(m->fd(), F_OFD_SETLK, &request) != 0) _exit(1);
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_TRUE(machine_->allocate_run(1, Owner::self()));
}

TEST_F(AllocationTest, AnotherKernelsPagesAreLeftAlone) {
  Owner guest = Owner::self();
  guest.boot ^= 1;
  guest.pid = 0x7ffffff;
  ASSERT_TRUE(machine_->allocate_run(8, guest));
  EXPECT_EQ(machine_->reclaim_dead(), 0u);
}

TEST_F(AllocationTest, PowerCycleFreesAllAndChangesTheReportKeyid) {
  Enclave e(*machine_);
  e.add_layout();
  const auto before = machine_->report_keyid();
  machine_->power_cycle();
  EXPECT_EQ(machine_->usage().free, 256u);
  EXPECT_NE(machine_->report_keyid(), before);
}

TEST_F(AllocationTest, PageRightsFollowTheEpcm) {
  Enclave e(*machine_);
  e.add_layout();
  EXPECT_EQ(machine_->page_rights(e.page(Enclave::kCode)), PROT_READ | PROT_EXEC);
  EXPECT_EQ(machine_->page_rights(e.page(Enclave::kData)), PROT_READ | PROT_WRITE);
  EXPECT_EQ(machine_->page_rights(e.page(Enclave::kTcs)), PROT_NONE);
  EXPECT_EQ(machine_->page_rights(e.secs), PROT_NONE);
  EXPECT_EQ(machine_->page_rights(200), PROT_NONE);
  ASSERT_TRUE(e.init().ok());
  EXPECT_EQ(machine_->page_rights(e.augment(Enclave::kFree)), PROT_NONE) << "pending";
}

}  // namespace
}  // namespace softsgx::test
