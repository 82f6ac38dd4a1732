#include "softsgx/quoting/aesm_service.h"

#include <cstring>

#include "sgx/aesm.pb.h"
#include "sgx/aesm_error.h"

namespace softsgx::quoting {
namespace {

using sgx::aesm::ErrorCode;

std::uint32_t number(ErrorCode code) noexcept {
  return static_cast<std::uint32_t>(code);
}

template <class T>
std::string object_string(const T& object) {
  return {reinterpret_cast<const char*>(&object), sizeof object};
}

std::string wire_key_id(const std::uint8_t (&mrsigner)[32]) {
  sgx::quote::AttestationKeyId id{};
  id.mrsigner_length = sizeof mrsigner;
  std::memcpy(id.mrsigner, mrsigner, sizeof mrsigner);
  id.product_id = kQeIsvprodid;  // Intel's QE has the same
  id.algorithm_id = sgx::quote::kKeyTypeEcdsaP256;
  std::string wire = object_string(id);
  wire.resize(sgx::quote::kAttestationKeyIdWire, '\0');
  return wire;
}

const std::string& own_key_id() {
  static const std::string id = wire_key_id(qe_mrsigner().bytes);
  return id;
}

const std::string& intel_key_id() {
  static const std::string id = wire_key_id(sgx::quote::kIntelQeMrsigner);
  return id;
}

// A client may leave the name out; only the structure counts, not the padding behind it.
bool known_key(bool named, const std::string& id) {
  if (!named) return true;
  if (id.size() < sizeof(sgx::quote::AttestationKeyId)) return false;
  const std::string_view name = std::string_view(id).substr(0, sizeof(sgx::quote::AttestationKeyId));
  return std::string_view(own_key_id()).starts_with(name) || std::string_view(intel_key_id()).starts_with(name);
}

void init_quote(const QuotingEnclave& enclave, const sgx::aesm::InitQuoteRequest& request,
                sgx::aesm::InitQuoteResponse& response) {
  if (!known_key(request.has_attestation_key_id(), request.attestation_key_id())) {
    return response.set_error(number(ErrorCode::kUnsupportedKeyId));
  }
  const Digest& key_id = enclave.key_id();
  if (request.want_key_id() && request.buffer_size() < key_id.size()) {
    return response.set_error(number(ErrorCode::kParameter));
  }
  response.set_error(number(ErrorCode::kSuccess));
  response.set_target_info(object_string(enclave.targetinfo()));
  response.set_key_id_size(key_id.size());
  if (request.want_key_id()) response.set_key_id(key_id.data(), key_id.size());
}

void quote_size(const QuotingEnclave& enclave, const sgx::aesm::QuoteSizeRequest& request,
                sgx::aesm::QuoteSizeResponse& response) {
  if (!known_key(request.has_attestation_key_id(), request.attestation_key_id())) {
    return response.set_error(number(ErrorCode::kUnsupportedKeyId));
  }
  response.set_error(number(ErrorCode::kSuccess));
  response.set_quote_size(static_cast<std::uint32_t>(enclave.quote_size()));
}

// Fills in the QE's report about `quote` for the client's enclave.
std::string answer_report_info(const QuotingEnclave& enclave, const std::string& request, Span quote) {
  sgx::quote::QeReportInfo info;
  std::memcpy(&info, request.data(), sizeof info);
  sgx::Targetinfo target;
  std::memcpy(&target, info.app_targetinfo, sizeof target);
  const sgx::Report report = enclave.qe_report(target, info.nonce, quote);
  std::memcpy(info.qe_report, &report, sizeof report);
  return object_string(info);
}

void quote(const QuotingEnclave& enclave, const sgx::aesm::QuoteRequest& request, sgx::aesm::QuoteResponse& response) {
  if (!known_key(request.has_attestation_key_id(), request.attestation_key_id())) {
    return response.set_error(number(ErrorCode::kUnsupportedKeyId));
  }
  const bool sizes_fit =
      request.report().size() == sizeof(sgx::Report) && request.buffer_size() >= enclave.quote_size() &&
      request.buffer_size() <= kMaxQuoteBuffer &&
      (!request.has_qe_report_info() || request.qe_report_info().size() == sizeof(sgx::quote::QeReportInfo));
  if (!sizes_fit) return response.set_error(number(ErrorCode::kParameter));
  sgx::Report report;
  std::memcpy(&report, request.report().data(), sizeof report);
  const std::optional<Bytes> made = enclave.quote(report);
  if (!made) return response.set_error(number(ErrorCode::kInvalidReport));
  response.set_error(number(ErrorCode::kSuccess));
  if (request.has_qe_report_info()) {
    response.set_qe_report_info(answer_report_info(enclave, request.qe_report_info(), *made));
  }
  std::string padded(made->begin(), made->end());
  padded.resize(request.buffer_size(), '\0');
  response.set_quote(std::move(padded));
}

// The list is a 4-byte head (how many) padded to its structure, then names of 256 bytes; the first one known is chosen.
void select_key(const sgx::aesm::SelectKeyRequest& request, sgx::aesm::SelectKeyResponse& response) {
  const std::string& list = request.attestation_key_ids();
  if (list.empty()) {
    response.set_error(number(ErrorCode::kSuccess));
    return response.set_attestation_key_id(own_key_id());
  }
  constexpr std::size_t kEntry = sgx::quote::kAttestationKeyIdWire;
  const std::size_t head = list.size() % kEntry;
  for (std::size_t at = head; at + kEntry <= list.size(); at += kEntry) {
    const std::string entry = list.substr(at, kEntry);
    if (!known_key(true, entry)) continue;
    response.set_error(number(ErrorCode::kSuccess));
    return response.set_attestation_key_id(entry);
  }
  response.set_error(number(ErrorCode::kUnsupportedKeyId));
}

void key_ids(const sgx::aesm::KeyIdsRequest& request, sgx::aesm::KeyIdsResponse& response) {
  if (request.buffer_size() < own_key_id().size()) return response.set_error(number(ErrorCode::kParameter));
  response.set_error(number(ErrorCode::kSuccess));
  response.set_attestation_key_ids(own_key_id());
}

}  // namespace

std::string AesmService::answer(std::string_view request_bytes) const {
  sgx::aesm::Request request;
  sgx::aesm::Response response;
  // Not ParseFromArray, which writes a line to stderr for every message that lacks a field.
  const bool decoded = request.ParsePartialFromArray(request_bytes.data(), static_cast<int>(request_bytes.size())) &&
                       request.IsInitialized();
  if (decoded && request.has_init_quote()) {
    init_quote(enclave_, request.init_quote(), *response.mutable_init_quote());
  } else if (decoded && request.has_quote_size()) {
    quote_size(enclave_, request.quote_size(), *response.mutable_quote_size());
  } else if (decoded && request.has_quote()) {
    quote(enclave_, request.quote(), *response.mutable_quote());
  } else if (decoded && request.has_select_key()) {
    select_key(request.select_key(), *response.mutable_select_key());
  } else if (decoded && request.has_key_count()) {
    response.mutable_key_count()->set_error(number(ErrorCode::kSuccess));
    response.mutable_key_count()->set_count(1);
  } else if (decoded && request.has_key_ids()) {
    key_ids(request.key_ids(), *response.mutable_key_ids());
  } else {
    response.mutable_unsupported()->set_error(number(ErrorCode::kUnexpected));
  }
  return response.SerializeAsString();
}

}  // namespace softsgx::quoting
