// The agent enclave's ecalls: class Agent (agent.h), call by call, as bytes. The caller is the untrusted agent process.
#pragma once

#include <array>
#include <cstdint>
#include <tuple>
#include <utility>

#include "migration/errc.h"
#include "sealift/calls.h"

namespace sealift::agent::calls {

using Id = std::array<std::uint8_t, 16>;
using BytesOr = std::pair<Errc, Bytes>;

// An Errc as the result of a call: Result<Errc> could not tell an answer from a failure.
struct Code {
  Errc errc = Errc::kOk;
  auto tie() { return std::tie(errc); }
  auto tie() const { return std::tie(errc); }
};

struct LocalReply {
  Errc error = Errc::kOk;
  std::uint64_t session = 0;
  Bytes confirm;
  auto tie() { return std::tie(error, session, confirm); }
  auto tie() const { return std::tie(error, session, confirm); }
};

struct LinkState {
  Errc call = Errc::kOk;  // of the question itself
  std::uint32_t phase = 0;
  Errc error = Errc::kOk;  // why the link failed
  std::uint64_t verdict_expires = 0;
  auto tie() { return std::tie(call, phase, error, verdict_expires); }
  auto tie() const { return std::tie(call, phase, error, verdict_expires); }
};

struct Event {
  bool there = false;
  std::uint32_t kind = 0;
  Errc error = Errc::kOk;
  std::uint64_t link = 0;
  Id attempt{};
  auto tie() { return std::tie(there, kind, error, link, attempt); }
  auto tie() const { return std::tie(there, kind, error, link, attempt); }
};

struct AttemptState {
  Errc call = Errc::kOk;
  bool as_source = false;
  std::uint32_t state = 0;
  bool holds_key = false;
  auto tie() { return std::tie(call, as_source, state, holds_key); }
  auto tie() const { return std::tie(call, as_source, state, holds_key); }
};

inline constexpr Ecall<1, Bytes()> kHello{};
inline constexpr Ecall<2, BytesOr(Bytes)> kQuoteReport{};
inline constexpr Ecall<3, Code(Bytes)> kInstallQuote{};
inline constexpr Ecall<4, LocalReply(Bytes)> kLocalHello{};
inline constexpr Ecall<5, BytesOr(std::uint64_t, Bytes)> kLocalMessage{};
inline constexpr Ecall<6, BytesOr(std::uint64_t)> kLocalPoll{};
inline constexpr Ecall<7, void(std::uint64_t)> kLocalClose{};
inline constexpr Ecall<8, std::pair<Errc, std::uint64_t>(bool)> kLinkOpen{};
inline constexpr Ecall<9, Code(std::uint64_t, Bytes)> kLinkFeed{};
inline constexpr Ecall<10, BytesOr(std::uint64_t)> kLinkTake{};
inline constexpr Ecall<11, LinkState(std::uint64_t)> kLinkState{};
inline constexpr Ecall<12, void(std::uint64_t)> kLinkClose{};
inline constexpr Ecall<13, Code(Id, std::uint64_t)> kOffer{};
inline constexpr Ecall<14, Code(Id)> kCancel{};
inline constexpr Ecall<15, Code(std::uint64_t, std::uint64_t)> kAnnounce{};
inline constexpr Ecall<16, Code(std::uint64_t, std::uint64_t)> kRequestGrant{};
inline constexpr Ecall<17, void(Id)> kForget{};
inline constexpr Ecall<18, Event()> kNextEvent{};
inline constexpr Ecall<19, AttemptState(Id)> kAttemptStatus{};

}  // namespace sealift::agent::calls
