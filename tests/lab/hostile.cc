// What a hostile host process can do on the test's behalf: see lab.h and raw.h.
#include <Zydis/Zydis.h>

#include "migration/ocalls.h"
#include "softsgx/isa/encls.h"
#include "tests/lab/lab.h"

namespace sealift::lab {
namespace {

constexpr std::uint32_t kEenter = 2, kEresume = 3;

template <typename T>
T expect_decoded(const Bytes& bytes) {
  T value{};
  EXPECT_TRUE(wire::decode(bytes, value));
  return value;
}

}  // namespace

void Peer::close() {
  Bytes out;
  EXPECT_EQ(request(Op::kClose, {}, out), Errc::kOk);
}

EncluResult Peer::enclu(const EncluArgs& args) {
  Bytes out;
  EXPECT_EQ(request(Op::kEnclu, wire::encode(args), out), Errc::kOk) << error;
  return expect_decoded<EncluResult>(out);
}

EncluResult Peer::enter(std::uint32_t tcs, std::uint64_t what, std::uint64_t a, std::uint64_t b) {
  return enclu({kEenter, tcs, what, a, b, {}, {}, 0});
}

EncluResult Peer::resume(std::uint32_t tcs) {
  return enclu({kEresume, tcs, 0, 0, 0, {}, {}, 0});
}

EncluResult Peer::finish(std::uint32_t tcs, EncluResult now, EncluArgs stop) {
  stop.leaf = kEresume;
  stop.tcs = tcs;
  now.hit = false;  // the caller knows of it, and goes on
  while (static_cast<RawOutcome>(now.outcome) == RawOutcome::kAex && !now.hit) {
    if (now.exception != 0) {
      const EncluResult answer = finish(tcs, handle(tcs));
      if (answer.reason != static_cast<std::uint64_t>(abi::Exit::kResume)) return answer;
    }
    now = enclu(stop);
  }
  return now;
}

EnclaveConfig Peer::config() {
  Bytes out;
  EXPECT_EQ(request(Op::kConfig, {}, out), Errc::kOk);
  EnclaveConfig config{};
  EXPECT_EQ(out.size(), sizeof config);
  std::memcpy(&config, out.data(), std::min(out.size(), sizeof config));
  return config;
}

std::uint64_t Peer::symbol(const std::string& name) {
  return function(name).first;
}

std::pair<std::uint64_t, std::uint64_t> Peer::function(const std::string& name) {
  Bytes out;
  EXPECT_EQ(request(Op::kSymbol, wire::encode(name), out), Errc::kOk) << error;
  const auto [begin, size] = expect_decoded<std::tuple<std::uint64_t, std::uint64_t>>(out);
  return {begin, begin + size};
}

std::vector<std::uint64_t> Peer::instructions(std::uint64_t begin, std::uint64_t end, const std::string& mnemonic) {
  const Bytes code = peek(begin, end - begin);
  std::vector<std::uint64_t> found;
  ZydisDecoder decoder;
  ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  for (std::uint64_t at = 0; at < code.size();) {
    ZydisDecodedInstruction instruction;
    const bool ok = ZYAN_SUCCESS(
        ZydisDecoderDecodeInstruction(&decoder, nullptr, code.data() + at, code.size() - at, &instruction));
    EXPECT_TRUE(ok) << "at image offset " << begin + at;
    if (!ok) break;
    if (mnemonic.empty() || mnemonic == ZydisMnemonicGetString(instruction.mnemonic)) found.push_back(begin + at);
    at += instruction.length;
  }
  return found;
}

Bytes Peer::peek(std::uint64_t offset, std::uint64_t length) {
  Bytes out;
  EXPECT_EQ(request(Op::kPeek, wire::encode(std::tuple(offset, length)), out), Errc::kOk);
  return out;
}

Bytes Peer::peek_arena(std::uint64_t offset, std::uint64_t length) {
  Bytes out;
  EXPECT_EQ(request(Op::kPeekArena, wire::encode(std::tuple(offset, length)), out), Errc::kOk);
  return out;
}

void Peer::poke(std::uint64_t arena_offset, const Bytes& bytes) {
  Bytes out;
  EXPECT_EQ(request(Op::kPoke, wire::encode(std::tuple(arena_offset, bytes)), out), Errc::kOk);
}

void Peer::poison(std::uint64_t offset, const Bytes& bytes) {
  Bytes out;
  EXPECT_EQ(request(Op::kPoison, wire::encode(std::tuple(offset, bytes)), out), Errc::kOk);
}

void Peer::hammer(std::uint64_t arena_offset, std::uint8_t mask) {
  Bytes out;
  EXPECT_EQ(request(Op::kHammer, wire::encode(std::tuple(arena_offset, mask)), out), Errc::kOk);
}

void Peer::replace_page(LabMachine& machine, std::uint64_t offset) {
  softsgx::Machine& m = machine.cpu->machine();
  const std::uint64_t wanted = softsgx::epcm::kValid | softsgx::epcm::of_type(sgx::PageType::kReg);
  const std::uint64_t compared = softsgx::epcm::kValid | softsgx::epcm::kTypeMask;
  for (softsgx::EpcIndex i = m.section_first(); i < m.section_first() + m.section_pages(); ++i) {
    const std::uint64_t state = m.epcm(i).state.load();
    if (m.epcm(i).enclave_address.load() != base + offset || (state & compared) != wanted) continue;
    const softsgx::EpcIndex secs = softsgx::epcm::secs(state);
    ASSERT_TRUE(softsgx::encls::eremove(m, i).ok());
    ASSERT_TRUE(softsgx::encls::eaug(m, i, secs, base + offset).ok());
    constexpr std::uint64_t kReadWrite = 3;
    ASSERT_EQ(driver(DriverOp::kRemap, offset, sgx::kPageSize, kReadWrite), 0u);
    return;
  }
  FAIL() << "no such page";
}

std::uint64_t Peer::driver(DriverOp op, std::uint64_t offset, std::uint64_t length, std::uint64_t value) {
  Bytes out;
  EXPECT_EQ(request(Op::kDriver, wire::encode(std::tuple(static_cast<std::uint32_t>(op), offset, length, value)), out),
            Errc::kOk);
  return std::get<0>(expect_decoded<std::tuple<std::uint64_t, std::uint64_t>>(out));
}

std::uint64_t Peer::put_call(std::uint32_t tcs, std::uint32_t id, const Bytes& arguments) {
  const abi::CallHeader header{id, static_cast<std::uint32_t>(arguments.size())};
  Bytes message = wire::encode(std::tuple(header.id, header.bytes));
  message.insert(message.end(), arguments.begin(), arguments.end());
  poke(abi::slot_offset(tcs, config().slot_bytes), message);
  return message.size();
}

Errc Peer::call_end(const EncluResult& end) {
  if (static_cast<RawOutcome>(end.outcome) != RawOutcome::kExit) return Errc::kEpcLost;
  if (end.reason == static_cast<std::uint64_t>(abi::Exit::kRefused)) return static_cast<Errc>(end.a);
  if (end.reason != static_cast<std::uint64_t>(abi::Exit::kDone)) return Errc::kCrashed;
  return static_cast<Errc>(end.a);
}

Bytes Peer::call_body(std::uint32_t tcs, std::uint64_t bytes) {
  constexpr std::uint64_t kHeader = sizeof(abi::CallHeader);
  EXPECT_GE(bytes, kHeader);
  return peek_arena(abi::slot_offset(tcs, config().slot_bytes) + kHeader, bytes - std::min(bytes, kHeader));
}

}  // namespace sealift::lab
