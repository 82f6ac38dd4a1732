// Guests as data, and their channels. What is done with them is in guest_operations.cc.
#include "daemon/guest_port.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "daemon/endpoint.h"
#include "daemon/guest_claims.h"
#include "daemon/guest_port_impl.h"

namespace sealift::daemon {

namespace {

using State = GuestEnclave::State;

// Of guests that come by themselves and say who they are.
constexpr std::size_t kMaxGuests = 1024, kMaxGuestName = 64;

}  // namespace

const char* name_of(State state) noexcept {
  switch (state) {
    case State::kRunning:
      return "running";
    case State::kPrepared:
      return "prepared";
    case State::kHeld:
      return "held";
    case State::kCommitted:
      return "committed";
    case State::kUnticketed:
      return "unticketed";
    case State::kResuming:
      return "resuming";
    case State::kLost:
      return "lost";
  }
  return "unknown";
}

std::uint64_t Guest::epc_bytes() const {
  std::uint64_t sum = 0;
  for (const GuestEnclave& enclave : enclaves) sum += enclave.epc_bytes;
  return sum;
}

// One that did not come to rest may have kept the others waiting between their records and their commits: that is not
// counted. Nor are those that did not come along since, whose checkpoint may have been another one.
double Guest::checkpoint_ms() const {
  double closed = 0, held = 0, first = 0, last = 0;
  for (const GuestEnclave& enclave : enclaves) {
    const bool known = enclave.gate_closed_ms > 0 && enclave.held_ms >= enclave.gate_closed_ms &&
                       enclave.committed_ms >= enclave.held_ms;
    if (!known || enclave.state != State::kRunning) continue;
    const bool one = last > 0;
    closed = one ? std::min(closed, enclave.gate_closed_ms) : enclave.gate_closed_ms;
    first = one ? std::min(first, enclave.committed_ms) : enclave.committed_ms;
    held = std::max(held, enclave.held_ms);
    last = std::max(last, enclave.committed_ms);
  }
  return held - closed + last - first;
}

bool Guest::all(State state) const {
  return std::all_of(enclaves.begin(), enclaves.end(), [&](const auto& each) { return each.state == state; });
}

GuestPort::GuestPort(const GuestParts& parts) : impl_(std::make_shared<Impl>(parts)) {}

GuestPort::~GuestPort() {
  stop();
}

void GuestPort::stop() {
  Impl& impl = *impl_;
  impl.stopping = true;
  for (auto& listener : impl.listeners) {
    std::error_code ignored;  // closing
    if (listener.local) listener.local->close(ignored);
    if (listener.tcp) listener.tcp->close(ignored);
    if (!listener.path.empty()) ::unlink(listener.path.c_str());
  }
  impl.listeners.clear();
  for (const auto& stream : std::exchange(impl.nameless, {})) stream->close();
  for (const auto& [name, guest] : impl.guests) {
    guest->redial.cancel();
    guest->deadline.cancel();
    if (guest->stream) guest->stream->close();
  }
  impl.guests.clear();
  impl.moves.clear();
}

// --- Channels -----------------------------------------------------------------------------------------------------

void GuestPort::listen(const std::string& channel) {
  Impl::Listener listener;
  if (const std::string path = channel_path(channel); !path.empty()) {
    listener.path = path;
    listener.local = std::make_unique<asio::local::stream_protocol::acceptor>(listen_unix(impl_->parts.io, path));
  } else {
    const auto where = parse_host_port(channel);
    if (!where) throw std::invalid_argument("neither a path nor HOST:PORT: " + channel);
    listener.tcp = std::make_unique<asio::ip::tcp::acceptor>(listen_tcp(impl_->parts.io, *where));
  }
  impl_->listeners.push_back(std::move(listener));
  impl_->accept(impl_->listeners.size() - 1);
}

std::vector<std::string> GuestPort::listen_addresses() const {
  std::vector<std::string> out;
  for (const auto& listener : impl_->listeners) {
    out.push_back(listener.tcp ? address_of(*listener.tcp) : listener.path);
  }
  return out;
}

void GuestPort::Impl::accept(std::size_t which) {
  const auto take = [this, self = shared_from_this(), which](const std::error_code& error, auto socket) {
    if (stopping || error == asio::error::operation_aborted) return;
    if (!error) serve(socket.release(), "");
    accept(which);
  };
  Listener& listener = listeners.at(which);
  if (listener.tcp) {
    listener.tcp->async_accept(take);
  } else {
    listener.local->async_accept(take);
  }
}

void GuestPort::attach(const std::string& name, const std::string& channel) {
  auto& guest = impl_->guests[name];
  if (!guest) guest = std::make_unique<GuestState>(impl_->parts.io);
  guest->known.name = name;
  impl_->drop(*guest, "attached elsewhere");
  guest->channel = channel;
  impl_->dial(name);
}

void GuestPort::detach(const std::string& name) {
  const auto found = impl_->guests.find(name);
  if (found == impl_->guests.end()) return;
  impl_->drop(*found->second, "detached");
  impl_->keep_move(*found->second);
  impl_->guests.erase(found);
}

void GuestPort::Impl::dial(const std::string& name) {
  GuestState* guest = find(name);
  if (guest == nullptr || guest->channel.empty() || guest->stream || stopping) return;
  connect_channel(parts.io, guest->channel,
                  [this, self = shared_from_this(), name, channel = guest->channel](const std::error_code& error,
                                                                                    Connection::Socket socket) {
                    const GuestState* now = find(name);
                    if (stopping || now == nullptr || now->channel != channel || now->stream) return;
                    error ? dial_later(name) : serve(socket.release(), name);
                  });
}

void GuestPort::Impl::dial_later(const std::string& name) {
  GuestState* guest = find(name);
  if (guest == nullptr || guest->channel.empty() || stopping) return;
  guest->redial.expires_after(parts.options.timeouts.retry);
  guest->redial.async_wait([this, self = shared_from_this(), name](const std::error_code& error) {
    if (!error) dial(name);
  });
}

// A stream that is attached is a known guest's; any other says in its session whose it is.
void GuestPort::Impl::serve(int fd, const std::string& attached_as) {
  auto stream = std::make_shared<std::weak_ptr<GuestChannel>>();
  auto name = std::make_shared<std::string>(attached_as);
  const auto weak = weak_from_this();  // sockets may outlive us
  GuestChannel::Callbacks callbacks;
  callbacks.on_session = [weak, stream, name](Connection::Socket socket) {
    const auto self = weak.lock();
    if (!self) return;
    auto session = std::make_shared<std::weak_ptr<GuestSession>>();
    GuestSession::Callbacks on;
    on.on_up = [weak, stream, name, session](const std::string& theirs) {
      const auto impl = weak.lock();
      if (name->empty()) *name = theirs;
      if (const auto current = session->lock(); impl && current) impl->session_up(current, stream->lock(), *name);
    };
    on.on_report = [weak, name, session](const wire::GuestReport& news) {
      const auto impl = weak.lock();
      const GuestState* guest = impl ? impl->find(*name) : nullptr;
      if (guest != nullptr && guest->session == session->lock()) impl->report(*name, news);
    };
    on.on_down = [weak, name, session](const std::string& why) {
      if (const auto impl = weak.lock()) impl->session_down(session->lock().get(), *name, why);
    };
    *session = GuestSession::start(std::move(socket), self->parts.options.name, self->parts.agent, self->offers,
                                   std::move(on));
  };
  callbacks.on_down = [weak, stream, name] {
    const auto self = weak.lock();
    if (!self) return;
    const auto mine = stream->lock();
    self->nameless.erase(mine);
    GuestState* guest = self->find(*name);
    if (guest == nullptr || guest->stream != mine) return;
    guest->stream.reset();
    self->dial_later(*name);
  };
  const auto started = GuestChannel::start(parts.io, fd, GuestChannel::Side::kHost, false, std::move(callbacks));
  *stream = started;
  if (GuestState* guest = attached_as.empty() ? nullptr : find(attached_as)) {
    guest->stream = started;
  } else {
    nameless.insert(started);
  }
}

void GuestPort::Impl::session_up(const std::shared_ptr<GuestSession>& session,
                                 const std::shared_ptr<GuestChannel>& stream, const std::string& name) {
  const GuestState* before = find(name);
  // Of one that is attached nobody else speaks, not even while its own broker is away.
  const bool taken = before != nullptr && (before->session || !before->channel.empty()) && before->stream != stream;
  if (taken || name.empty() || one_line(name, kMaxGuestName) != name ||
      (before == nullptr && guests.size() >= kMaxGuests)) {
    spdlog::warn("another guest calls itself {}: refused", one_line(name, kMaxGuestName));
    return session->close(taken ? "a guest of this name is connected already" : "no name for a guest");
  }
  auto& guest = guests[name];
  if (!guest) guest = std::make_unique<GuestState>(parts.io);
  nameless.erase(stream);
  guest->known.name = name;
  guest->stream = stream;
  guest->session = session;
  session->succeed(guest->agent_sessions_left);
  guest->reported = false;
}

void GuestPort::Impl::session_down(const GuestSession* session, const std::string& name, const std::string& why) {
  GuestState* guest = find(name);
  if (stopping || guest == nullptr || (session != nullptr && guest->session.get() != session)) return;
  if (!guest->session) return;
  spdlog::info("guest {}: {}", name, why);
  guest->session.reset();
  const bool was_up = std::exchange(guest->known.connected, false);
  finish(name, guest->operation, make_failure(wire::Failure::UNREACHABLE, "lost the guest's broker", name, why));
  if (!was_up) return;
  for (Watcher* watcher : std::set(watchers)) {
    if (watchers.contains(watcher)) watcher->guest_down(name);
  }
}

void GuestPort::Impl::drop(GuestState& guest, const std::string& why) {
  guest.redial.cancel();
  const auto session = guest.session;
  const auto stream = std::exchange(guest.stream, nullptr);
  if (session) session_down(session.get(), guest.known.name, why);
  if (stream) stream->close();
}

void GuestPort::Impl::report(const std::string& name, const wire::GuestReport& news) {
  GuestState* guest = find(name);
  Guest& known = guest->known;
  if (news.whole()) {
    known.enclaves.clear();
    known.untouched_bytes = news.untouched_bytes();
  }
  if (news.cpus() != 0) known.cpus = news.cpus();
  for (const std::uint64_t gone : news.gone()) {
    std::erase_if(known.enclaves, [&](const auto& each) { return each.id == gone; });
  }
  std::vector<GuestEnclave> changed;
  for (const wire::GuestRow& row : news.rows()) {
    GuestEnclave now = enclave_of(row);
    const auto found = std::find_if(known.enclaves.begin(), known.enclaves.end(),
                                    [&](const auto& each) { return each.id == row.id(); });
    const bool news_of_state = found == known.enclaves.end() || found->state != now.state || found->text != now.text;
    if (news_of_state && !news.whole()) changed.push_back(now);
    if (found != known.enclaves.end()) {
      *found = std::move(now);
    } else if (known.enclaves.size() < kMaxGuestEnclaves) {
      known.enclaves.push_back(std::move(now));
    } else {
      return guest->session->close("more enclaves than a guest may have");
    }
  }
  if (guest->move) guest->move->saw(known.enclaves);
  for (const auto& move : moves) {
    if (move->guest() == name) move->saw(known.enclaves);
  }
  offer_new(*guest);
  sweep_moves();
  if (const auto on_event = guest->on_event) {
    for (const GuestEnclave& enclave : changed) on_event(enclave);
  }
  if (!news.whole() || std::exchange(guest->reported, true)) return;
  known.connected = true;
  spdlog::info("guest {} is here, {} enclaves", name, known.enclaves.size());
  for (Watcher* watcher : std::set(watchers)) {
    if (watchers.contains(watcher)) watcher->guest_up(name);
  }
}

GuestState* GuestPort::Impl::find(const std::string& name) const {
  const auto found = guests.find(name);
  return found == guests.end() ? nullptr : found->second.get();
}

std::vector<Guest> GuestPort::guests() const {
  std::vector<Guest> out;
  for (const auto& [name, guest] : impl_->guests) out.push_back(guest->known);
  return out;
}

std::optional<Guest> GuestPort::guest(const std::string& name) const {
  const GuestState* found = impl_->find(name);
  return found == nullptr ? std::nullopt : std::optional(found->known);
}

void GuestPort::watch(Watcher* watcher) {
  impl_->watchers.insert(watcher);
}

void GuestPort::unwatch(Watcher* watcher) {
  impl_->watchers.erase(watcher);
}

}  // namespace sealift::daemon
