#include "attestation/aesm_client.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "sgx/aesm.pb.h"

namespace sealift::attestation {
namespace {

constexpr std::uint32_t kMaxResponse = 2 * 1024 * 1024;

class Descriptor {
 public:
  explicit Descriptor(int fd) noexcept : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const noexcept { return fd_; }

 private:
  int fd_;
};

bool send_all(int fd, std::string_view data) noexcept {
  while (!data.empty()) {
    const ssize_t sent = ::send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    data.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

bool receive_all(int fd, void* out, std::size_t size) noexcept {
  auto* at = static_cast<char*>(out);
  while (size > 0) {
    const ssize_t got = ::recv(fd, at, size, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) errno = ECONNRESET;
    if (got <= 0) return false;
    at += got;
    size -= static_cast<std::size_t>(got);
  }
  return true;
}

AesmError io_error(const std::string& socket, const char* what) {
  return {AesmErrorKind::kIo, 0, std::string(what) + " the quoting service at " + socket + ": " + std::strerror(errno)};
}

AesmError bad_response(const std::string& socket) {
  return {AesmErrorKind::kBadResponse, 0, "the quoting service at " + socket + " sent an answer that does not fit"};
}

Result<sgx::aesm::Response, AesmError> transact(const std::string& socket, std::chrono::seconds timeout,
                                                const sgx::aesm::Request& request) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket.size() >= sizeof address.sun_path) {
    return AesmError{AesmErrorKind::kConnect, 0, "socket path too long: " + socket};
  }
  std::memcpy(address.sun_path, socket.data(), socket.size());
  const Descriptor fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval limit{.tv_sec = timeout.count(), .tv_usec = 0};
  if (fd.get() < 0 || ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0 ||
      ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0 ||
      ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return AesmError{AesmErrorKind::kConnect, 0,
                     "no quoting service at " + socket + ": " + std::strerror(errno) + "; is aesmd running?"};
  }
  const std::string body = request.SerializeAsString();
  const auto size = static_cast<std::uint32_t>(body.size());
  const std::string framed = std::string(reinterpret_cast<const char*>(&size), sizeof size) + body;
  if (!send_all(fd.get(), framed)) return io_error(socket, "cannot write to");
  std::uint32_t response_size = 0;
  if (!receive_all(fd.get(), &response_size, sizeof response_size)) return io_error(socket, "cannot read from");
  if (response_size > kMaxResponse) return bad_response(socket);
  std::string response_bytes(response_size, '\0');
  if (!receive_all(fd.get(), response_bytes.data(), response_size)) return io_error(socket, "cannot read from");
  sgx::aesm::Response response;
  if (!response.ParsePartialFromString(response_bytes) || !response.IsInitialized()) return bad_response(socket);
  return response;
}

AesmError service_error(const std::string& socket, const char* request, std::uint32_t code) {
  return {AesmErrorKind::kService, code,
          "the quoting service at " + socket + " refused to " + request + ": AESM error " + std::to_string(code)};
}

bool is_ecdsa(std::string_view key_id) noexcept {
  sgx::quote::AttestationKeyId id;
  std::memcpy(&id, key_id.data(), sizeof id);
  return id.algorithm_id == sgx::quote::kKeyTypeEcdsaP256;
}

}  // namespace

AesmClient::AesmClient(std::string socket, std::chrono::seconds timeout)
    : socket_(std::move(socket)), timeout_(timeout) {}

Result<std::string, AesmError> AesmClient::ecdsa_key_id() const {
  sgx::aesm::Request request;
  request.mutable_key_count();
  const auto count = transact(socket_, timeout_, request);
  if (!count) return count.error();
  if (!count.value().has_key_count()) return bad_response(socket_);
  if (const auto code = count.value().key_count().error()) return service_error(socket_, "list its keys", code);

  constexpr std::uint32_t kWire = sgx::quote::kAttestationKeyIdWire;
  if (count.value().key_count().count() > kMaxResponse / kWire) return bad_response(socket_);
  request.Clear();
  request.mutable_key_ids()->set_buffer_size(count.value().key_count().count() * kWire);
  const auto ids = transact(socket_, timeout_, request);
  if (!ids) return ids.error();
  if (!ids.value().has_key_ids()) return bad_response(socket_);
  if (const auto code = ids.value().key_ids().error()) return service_error(socket_, "name its keys", code);
  const std::string& list = ids.value().key_ids().attestation_key_ids();
  for (std::size_t at = 0; at + kWire <= list.size(); at += kWire) {
    std::string id = list.substr(at, kWire);
    if (is_ecdsa(id)) return id;
  }
  return AesmError{AesmErrorKind::kNoEcdsaKey, 0,
                   "the quoting service at " + socket_ + " makes no ECDSA quotes; install its DCAP plugin"};
}

Result<sgx::Targetinfo, AesmError> AesmClient::get_target_info() const {
  const auto key_id = ecdsa_key_id();
  if (!key_id) return key_id.error();
  sgx::aesm::Request request;
  request.mutable_init_quote()->set_attestation_key_id(key_id.value());
  // Intel's service fills in the TARGETINFO only when the key's name, a SHA-256, is asked for as well.
  request.mutable_init_quote()->set_want_key_id(true);
  request.mutable_init_quote()->set_buffer_size(32);
  const auto response = transact(socket_, timeout_, request);
  if (!response) return response.error();
  if (!response.value().has_init_quote()) return bad_response(socket_);
  const auto& answer = response.value().init_quote();
  if (answer.error() != 0) return service_error(socket_, "name its quoting enclave", answer.error());
  if (answer.target_info().size() != sizeof(sgx::Targetinfo)) return bad_response(socket_);
  sgx::Targetinfo target;
  std::memcpy(&target, answer.target_info().data(), sizeof target);
  return target;
}

Result<Bytes, AesmError> AesmClient::get_quote(const sgx::Report& report) const {
  const auto key_id = ecdsa_key_id();
  if (!key_id) return key_id.error();
  sgx::aesm::Request request;
  request.mutable_quote_size()->set_attestation_key_id(key_id.value());
  const auto size = transact(socket_, timeout_, request);
  if (!size) return size.error();
  if (!size.value().has_quote_size()) return bad_response(socket_);
  if (const auto code = size.value().quote_size().error()) return service_error(socket_, "tell a quote's size", code);

  request.Clear();
  auto* wanted = request.mutable_quote();
  wanted->set_report(&report, sizeof report);
  wanted->set_attestation_key_id(key_id.value());
  wanted->set_buffer_size(size.value().quote_size().quote_size());
  const auto response = transact(socket_, timeout_, request);
  if (!response) return response.error();
  if (!response.value().has_quote()) return bad_response(socket_);
  const auto& answer = response.value().quote();
  if (answer.error() != 0) return service_error(socket_, "quote the report", answer.error());
  const ByteSpan padded = text_bytes(answer.quote());
  const auto real_size = quote_size(padded);
  if (!real_size) return bad_response(socket_);
  return Bytes(padded.begin(), padded.begin() + static_cast<std::ptrdiff_t>(*real_size));
}

}  // namespace sealift::attestation
