// A client's bytes, in pieces: the host's idea of where commands end must be the enclave's, and no byte may do more
// harm than an error reply.
#include <algorithm>
#include <cstdlib>

#include "examples/kv/server/inbox.h"
#include "examples/kv/store/batch.h"

namespace {

kv::Store& store() {
  static kv::Store the_store{[] { return kv::Milliseconds{1000}; }};
  kv::Memory::set_limit(std::size_t{4} << 20);
  return the_store;
}

// False: the connection is over.
bool drain(kv::Inbox& inbox) {
  for (;;) {
    const kv::Inbox::Item item = inbox.next();
    if (item.kind == kv::Inbox::Kind::kNothing) return true;
    if (item.kind == kv::Inbox::Kind::kBroken) return false;
    if (item.kind == kv::Inbox::Kind::kOversized) continue;
    constexpr std::size_t kReply = 4096;
    const kv::Answer answer = kv::execute(store(), 1, item.bytes, kReply);
    if (answer.consumed > item.bytes.size() || answer.reply.size() > kReply) std::abort();
    if (answer.consumed == 0 && !answer.close) std::abort();  // the two disagree about where a command ends
    if (answer.close) return false;
    inbox.consumed(answer.consumed);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::size_t piece = data[0] + std::size_t{1};
  kv::Inbox inbox;
  for (std::size_t at = 1; at < size;) {
    const std::span<char> space = inbox.space();
    const std::size_t n = std::min({piece, size - at, space.size()});
    std::copy_n(data + at, n, space.data());
    at += n;
    inbox.received(n);
    if (!drain(inbox)) break;
  }
  return 0;
}
