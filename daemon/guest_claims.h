// What a guest's broker says of its enclaves, before it is believed to be even a statement: bounded, of the right
// sizes, fit to be shown to people. Whether it is true only the agent can tell.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "daemon/guest_port.h"
#include "daemon/wire.pb.h"

namespace sealift::daemon {

// That a guest may have: each takes one of the agent's sessions when it moves, and a line in what this host reports of
// all of them, which is one message.
inline constexpr std::size_t kMaxGuestEnclaves = 1024;

// False: no broker of ours says this.
[[nodiscard]] bool credible(const wire::GuestReport& report);
[[nodiscard]] GuestEnclave enclave_of(const wire::GuestRow& row);
// Its own words on one line, at most `limit` bytes long.
[[nodiscard]] std::string one_line(std::string_view text, std::size_t limit);
[[nodiscard]] wire::Failure one_line(const wire::Failure& failure);

}  // namespace sealift::daemon
