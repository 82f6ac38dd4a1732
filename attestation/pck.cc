#include "attestation/pck.h"

#include <openssl/err.h>

#include <functional>

namespace sealift::attestation {
namespace {

void free_sequence(ASN1_SEQUENCE_ANY* sequence) noexcept {
  sk_ASN1_TYPE_pop_free(sequence, ASN1_TYPE_free);
}
using SequencePtr = std::unique_ptr<ASN1_SEQUENCE_ANY, Deleter<free_sequence>>;

SequencePtr decode_sequence(ByteSpan der) {
  const std::uint8_t* at = der.data();
  SequencePtr sequence(d2i_ASN1_SEQUENCE_ANY(nullptr, &at, static_cast<long>(der.size())));
  if (!sequence) ERR_clear_error();
  if (sequence && at != der.data() + der.size()) return nullptr;
  return sequence;
}

ByteSpan string_bytes(const ASN1_STRING* string) noexcept {
  return {ASN1_STRING_get0_data(string), static_cast<std::size_t>(ASN1_STRING_length(string))};
}

// An INTEGER in [0, limit].
std::optional<std::uint64_t> integer(const ASN1_TYPE* value, std::uint64_t limit) noexcept {
  std::uint64_t number = 0;
  if (value->type != V_ASN1_INTEGER || ASN1_INTEGER_get_uint64(&number, value->value.integer) != 1) {
    ERR_clear_error();
    return std::nullopt;
  }
  if (number > limit) return std::nullopt;
  return number;
}

template <std::size_t N>
bool octets(const ASN1_TYPE* value, std::array<std::uint8_t, N>& out) noexcept {
  if (value->type != V_ASN1_OCTET_STRING) return false;
  const ByteSpan bytes = string_bytes(value->value.octet_string);
  if (bytes.size() != N) return false;
  std::memcpy(out.data(), bytes.data(), N);
  return true;
}

std::string dotted(const ASN1_OBJECT* object) {
  char text[80];
  const int size = OBJ_obj2txt(text, sizeof text, object, /*no_name=*/1);
  if (size <= 0 || size >= static_cast<int>(sizeof text)) return {};
  return text;
}

// Calls `field(oid, value)` for every {OBJECT IDENTIFIER, ANY} of a SEQUENCE OF such pairs.
std::optional<PckError> for_each_field(
    ByteSpan der, const std::function<std::optional<PckError>(const std::string&, ASN1_TYPE*)>& field) {
  const SequencePtr list = decode_sequence(der);
  if (!list) return PckError::kMalformed;
  for (int i = 0; i < sk_ASN1_TYPE_num(list.get()); ++i) {
    const ASN1_TYPE* element = sk_ASN1_TYPE_value(list.get(), i);
    if (element->type != V_ASN1_SEQUENCE) return PckError::kMalformed;
    const SequencePtr pair = decode_sequence(string_bytes(element->value.sequence));
    if (!pair || sk_ASN1_TYPE_num(pair.get()) != 2) return PckError::kMalformed;
    const ASN1_TYPE* name = sk_ASN1_TYPE_value(pair.get(), 0);
    if (name->type != V_ASN1_OBJECT) return PckError::kMalformed;
    if (const auto error = field(dotted(name->value.object), sk_ASN1_TYPE_value(pair.get(), 1))) return error;
  }
  return std::nullopt;
}

// Remembers which of a set of numbered fields have been seen.
class Seen {
 public:
  std::optional<PckError> mark(unsigned field) noexcept {
    const std::uint32_t bit = 1u << field;
    if (bits_ & bit) return PckError::kDuplicateField;
    bits_ |= bit;
    return std::nullopt;
  }
  [[nodiscard]] bool all(unsigned count) const noexcept { return bits_ == (1u << count) - 1; }

 private:
  std::uint32_t bits_ = 0;
};

constexpr unsigned kTcbParts = sgx::quote::kTcbComponents + 2;  // and PCESVN, CPUSVN

std::optional<PckError> read_tcb(ByteSpan der, PckExtension& out) {
  Seen seen;
  const std::string prefix = std::string(sgx::quote::kOidTcb) + ".";
  const auto error = for_each_field(der, [&](const std::string& oid, ASN1_TYPE* value) -> std::optional<PckError> {
    for (unsigned part = 0; part < kTcbParts; ++part) {
      if (oid != prefix + std::to_string(part + 1)) continue;
      if (const auto repeated = seen.mark(part)) return repeated;
      if (part == kTcbParts - 1) return octets(value, out.cpusvn) ? std::nullopt : std::optional(PckError::kBadField);
      const auto number = integer(value, part < out.components.size() ? 0xff : 0xffff);
      if (!number) return PckError::kBadField;
      if (part < out.components.size()) {
        out.components[part] = static_cast<std::uint8_t>(*number);
      } else {
        out.pcesvn = static_cast<std::uint16_t>(*number);
      }
    }
    return std::nullopt;
  });
  if (error) return error;
  if (!seen.all(kTcbParts)) return PckError::kMissingField;
  return std::nullopt;
}

}  // namespace

Result<PckExtension, PckError> parse_pck_extension(ByteSpan der) {
  PckExtension out;
  Seen seen;
  const auto error = for_each_field(der, [&](const std::string& oid, ASN1_TYPE* value) -> std::optional<PckError> {
    const auto take = [&](unsigned field, bool good) -> std::optional<PckError> {
      if (const auto repeated = seen.mark(field)) return repeated;
      return good ? std::nullopt : std::optional(PckError::kBadField);
    };
    if (oid == sgx::quote::kOidPpid) return take(0, octets(value, out.ppid));
    if (oid == sgx::quote::kOidPceid) return take(1, octets(value, out.pceid));
    if (oid == sgx::quote::kOidFmspc) return take(2, octets(value, out.fmspc));
    if (oid == sgx::quote::kOidTcb) {
      if (const auto bad = take(3, value->type == V_ASN1_SEQUENCE)) return bad;
      return read_tcb(string_bytes(value->value.sequence), out);
    }
    return std::nullopt;  // the SGX type, and multi-package fields of platform CAs: nothing here depends on them
  });
  if (error) return *error;
  if (!seen.all(4)) return PckError::kMissingField;
  return out;
}

Result<PckExtension, PckError> parse_pck_extension(const X509* certificate) {
  const ObjectPtr oid(OBJ_txt2obj(sgx::quote::kOidSgxExtensions, /*no_name=*/1));
  const int at = X509_get_ext_by_OBJ(certificate, oid.get(), -1);
  if (at < 0 || X509_get_ext_by_OBJ(certificate, oid.get(), at) >= 0) return PckError::kNoExtension;
  return parse_pck_extension(string_bytes(X509_EXTENSION_get_data(X509_get_ext(certificate, at))));
}

}  // namespace sealift::attestation
