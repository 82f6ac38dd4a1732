#include "daemon/guest_claims.h"

#include <algorithm>

namespace sealift::daemon {

namespace {

using State = GuestEnclave::State;

constexpr std::size_t kIdBytes = 16, kDigestBytes = 32;
constexpr std::size_t kMaxName = 64, kMaxText = 160, kMaxImage = 256;

double ms(std::uint64_t ns) {
  return static_cast<double>(ns) / 1e6;
}

State state_of(wire::GuestRow::State state) {
  switch (state) {
    case wire::GuestRow::PREPARED:
      return State::kPrepared;
    case wire::GuestRow::HELD:
      return State::kHeld;
    case wire::GuestRow::COMMITTED:
      return State::kCommitted;
    case wire::GuestRow::UNTICKETED:
      return State::kUnticketed;
    case wire::GuestRow::RESUMING:
      return State::kResuming;
    case wire::GuestRow::LOST:
      return State::kLost;
    default:
      return State::kRunning;
  }
}

bool id_or_nothing(const std::string& bytes, std::size_t size) {
  return bytes.empty() || bytes.size() == size;
}

}  // namespace

bool credible(const wire::GuestReport& report) {
  const auto limit = static_cast<int>(kMaxGuestEnclaves);
  return report.rows_size() <= limit && report.gone_size() <= limit &&
         std::all_of(report.rows().begin(), report.rows().end(), [](const wire::GuestRow& row) {
           return id_or_nothing(row.lineage(), kIdBytes) && id_or_nothing(row.attempt(), kIdBytes) &&
                  id_or_nothing(row.mrenclave(), kDigestBytes);
         });
}

// ASCII alone: of anything else some terminal makes a command.
std::string one_line(std::string_view text, std::size_t limit) {
  std::string out(text.substr(0, limit));
  std::replace_if(
      out.begin(), out.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return out;
}

wire::Failure one_line(const wire::Failure& failure) {
  return make_failure(failure.kind(), one_line(failure.what(), kMaxText), one_line(failure.object(), kMaxText),
                      one_line(failure.advice(), kMaxText), static_cast<Errc>(failure.errc()));
}

GuestEnclave enclave_of(const wire::GuestRow& row) {
  GuestEnclave out;
  out.id = row.id();
  out.name = one_line(row.name(), kMaxName);
  out.pid = row.pid();
  out.lineage = row.lineage();
  out.epoch = row.epoch();
  out.mrenclave = row.mrenclave();
  out.pages = row.pages();
  out.epc_bytes = row.epc_bytes();
  out.records = row.record_bytes();
  out.state = state_of(row.state());
  out.attempt = row.attempt();
  out.error = static_cast<Errc>(row.errc());
  out.text = one_line(row.text(), kMaxText);
  out.gate = row.gate();
  out.threads = row.threads();
  out.image = one_line(row.image(), kMaxImage);
  out.gate_closed_ms = ms(row.gate_closed_ns());
  out.held_ms = ms(row.held_ns());
  out.committed_ms = ms(row.committed_ns());
  out.rebuilt_ms = ms(row.rebuilt_ns());
  out.gate_opened_ms = ms(row.gate_opened_ns());
  return out;
}

}  // namespace sealift::daemon
