#include "attestation/collateral.h"

namespace sealift::attestation {
namespace {

std::string_view skip_space(std::string_view text) noexcept {
  while (!text.empty() && (text[0] == ' ' || text[0] == '\t' || text[0] == '\r' || text[0] == '\n')) {
    text.remove_prefix(1);
  }
  return text;
}

// Consumes one literal token after optional white space.
bool eat(std::string_view& text, std::string_view token) noexcept {
  const std::string_view rest = skip_space(text);
  if (!rest.starts_with(token)) return false;
  text = rest.substr(token.size());
  return true;
}

// Length of the JSON object that `text` begins with, found by its brackets outside strings; 0 if it never closes.
// Whether it is well-formed is for the JSON parser to say.
std::size_t object_length(std::string_view text) noexcept {
  if (!text.starts_with('{')) return 0;
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
      continue;
    }
    if (c == '"') in_string = true;
    if (c == '{') ++depth;
    if (c == '}' && --depth == 0) return i + 1;
  }
  return 0;
}

void append_document(Bytes& out, ByteSpan document) {
  append_object(out, static_cast<std::uint32_t>(document.size()));
  out.insert(out.end(), document.begin(), document.end());
}

bool read_document(Reader& reader, ByteSpan& document) noexcept {
  std::uint32_t size = 0;
  return reader.read(size) && reader.take(size, document);
}

}  // namespace

std::optional<Envelope> split_envelope(std::string_view served, std::string_view name) noexcept {
  Envelope envelope;
  std::string_view rest = served;
  if (!eat(rest, "{") || !eat(rest, "\"") || !rest.starts_with(name)) return std::nullopt;
  rest.remove_prefix(name.size());
  if (!rest.starts_with('"')) return std::nullopt;
  rest.remove_prefix(1);
  if (!eat(rest, ":")) return std::nullopt;
  rest = skip_space(rest);
  const std::size_t length = object_length(rest);
  if (length == 0) return std::nullopt;
  envelope.body = rest.substr(0, length);
  rest.remove_prefix(length);
  if (!eat(rest, ",") || !eat(rest, "\"signature\"") || !eat(rest, ":") || !eat(rest, "\"")) return std::nullopt;
  constexpr std::size_t kDigits = 2 * sgx::quote::kSignatureSize;
  if (rest.size() < kDigits || !decode_hex(rest.substr(0, kDigits), envelope.signature)) return std::nullopt;
  rest.remove_prefix(kDigits);
  if (!rest.starts_with('"')) return std::nullopt;
  rest.remove_prefix(1);
  if (!eat(rest, "}")) return std::nullopt;
  // A file or an HTTP body may end in a line feed or a NUL; nothing else.
  while (rest.ends_with('\0')) rest.remove_suffix(1);
  if (!skip_space(rest).empty()) return std::nullopt;
  return envelope;
}

Bytes serialize_collateral(const Collateral& collateral) {
  Bytes out;
  append_object(out, kCollateralMagic);
  append_object(out, kCollateralVersion);
  append_document(out, text_bytes(collateral.tcb_info));
  append_document(out, text_bytes(collateral.tcb_info_issuer_chain));
  append_document(out, text_bytes(collateral.qe_identity));
  append_document(out, text_bytes(collateral.qe_identity_issuer_chain));
  append_document(out, collateral.pck_crl);
  append_document(out, collateral.root_ca_crl);
  return out;
}

Result<Collateral, CollateralError> parse_collateral(ByteSpan bytes) {
  if (bytes.size() > kMaxCollateralSize) return CollateralError::kTooLarge;
  Reader reader(bytes);
  std::uint32_t magic = 0, version = 0;
  if (!reader.read(magic) || magic != kCollateralMagic) return CollateralError::kBadMagic;
  if (!reader.read(version)) return CollateralError::kTruncated;
  if (version != kCollateralVersion) return CollateralError::kUnsupportedContainer;
  std::array<ByteSpan, 6> documents;
  for (ByteSpan& document : documents) {
    if (!read_document(reader, document)) return CollateralError::kTruncated;
  }
  if (reader.left() != 0) return CollateralError::kTrailingBytes;
  Collateral collateral;
  collateral.tcb_info = as_text(documents[0]);
  collateral.tcb_info_issuer_chain = as_text(documents[1]);
  collateral.qe_identity = as_text(documents[2]);
  collateral.qe_identity_issuer_chain = as_text(documents[3]);
  collateral.pck_crl.assign(documents[4].begin(), documents[4].end());
  collateral.root_ca_crl.assign(documents[5].begin(), documents[5].end());
  return collateral;
}

}  // namespace sealift::attestation
