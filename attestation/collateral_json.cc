// The JSON bodies of TCB info and QE identity (Intel's PCS API, version 4, and version 3 for older TCB info).
#include <limits>
#include <nlohmann/json.hpp>

#include "attestation/collateral.h"

namespace sealift::attestation {
namespace {

using Json = nlohmann::json;

// Typed access to the fields of one object. The first error sticks and later reads are skipped, so that a decoder is
// a list of reads and one check at its end.
class Fields {
 public:
  Fields(const Json& object, std::optional<CollateralError>& error) : object_(object), error_(error) {
    if (!object_.is_object()) fail(CollateralError::kBadField);
  }

  [[nodiscard]] bool has(const char* name) const { return !error_ && object_.contains(name); }

  void text(const char* name, std::string& out) {
    const Json* field = find(name);
    if (!field) return;
    if (!field->is_string()) return fail(CollateralError::kBadField);
    out = field->get_ref<const std::string&>();
  }

  template <class T>
  void number(const char* name, T& out) {
    const Json* field = find(name);
    if (!field) return;
    if (!field->is_number_unsigned()) return fail(CollateralError::kBadField);
    const auto value = field->get<std::uint64_t>();
    if (value > std::numeric_limits<T>::max()) return fail(CollateralError::kBadField);
    out = static_cast<T>(value);
  }

  template <std::size_t N>
  void hex(const char* name, std::array<std::uint8_t, N>& out) {
    std::string digits;
    text(name, digits);
    if (!error_ && !decode_hex(digits, out)) fail(CollateralError::kBadField);
  }

  void date(const char* name, UnixTime& out) {
    std::string utc;
    text(name, utc);
    if (error_) return;
    const auto time = parse_utc(utc);
    if (!time) return fail(CollateralError::kBadDate);
    out = *time;
  }

  void status(const char* name, TcbStatus& out) {
    std::string spelt;
    text(name, spelt);
    if (error_) return;
    const auto status = parse_tcb_status(spelt);
    if (!status) return fail(CollateralError::kUnknownStatus);
    out = *status;
  }

  // A list that may be missing altogether.
  void optional_texts(const char* name, std::vector<std::string>& out) {
    if (!has(name)) return;
    const Json* list = array(name);
    if (!list) return;
    for (const Json& element : *list) {
      if (!element.is_string()) return fail(CollateralError::kBadField);
      out.push_back(element.get<std::string>());
    }
  }

  // Null after an error.
  [[nodiscard]] const Json* array(const char* name) {
    const Json* field = find(name);
    if (field && !field->is_array()) {
      fail(CollateralError::kBadField);
      return nullptr;
    }
    return field;
  }

  [[nodiscard]] const Json* find(const char* name) {
    if (error_) return nullptr;
    const auto field = object_.find(name);
    if (field == object_.end()) {
      fail(CollateralError::kMissingField);
      return nullptr;
    }
    return &*field;
  }

  void fail(CollateralError error) {
    if (!error_) error_ = error;
  }

 private:
  const Json& object_;
  std::optional<CollateralError>& error_;
};

// Version 3 lists the components, version 2 names them one by one.
void read_components(Fields& tcb, std::uint32_t version, TcbComponents& out, std::optional<CollateralError>& error) {
  if (version == 2) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      const char name[] = {'s',
                           'g',
                           'x',
                           't',
                           'c',
                           'b',
                           'c',
                           'o',
                           'm',
                           'p',
                           static_cast<char>('0' + (i + 1) / 10),
                           static_cast<char>('0' + (i + 1) % 10),
                           's',
                           'v',
                           'n',
                           '\0'};
      tcb.number(name, out[i]);
    }
    return;
  }
  const Json* list = tcb.array("sgxtcbcomponents");
  if (!list) return;
  if (list->size() != out.size()) return tcb.fail(CollateralError::kBadField);
  for (std::size_t i = 0; i < out.size(); ++i) Fields((*list)[i], error).number("svn", out[i]);
}

template <class Level, class ReadTcb>
void read_levels(Fields& fields, std::vector<Level>& out, std::optional<CollateralError>& error, ReadTcb read_tcb) {
  const Json* list = fields.array("tcbLevels");
  if (!list) return;
  for (const Json& element : *list) {
    Level level;
    Fields level_fields(element, error);
    if (const Json* tcb = level_fields.find("tcb")) {
      Fields tcb_fields(*tcb, error);
      read_tcb(tcb_fields, level);
    }
    level_fields.date("tcbDate", level.tcb_date);
    level_fields.status("tcbStatus", level.status);
    level_fields.optional_texts("advisoryIDs", level.advisories);
    if (error) return;
    out.push_back(std::move(level));
  }
  if (out.empty()) fields.fail(CollateralError::kNoLevels);
}

std::optional<CollateralError> read_tcb_info(const Json& body, TcbInfo& out) {
  std::optional<CollateralError> error;
  Fields fields(body, error);
  std::uint32_t tcb_type = 0;
  fields.number("version", out.version);
  if (!error && out.version != 2 && out.version != 3) return CollateralError::kUnsupportedFormat;
  out.id = "SGX";
  if (out.version == 3) fields.text("id", out.id);
  fields.date("issueDate", out.issue_date);
  fields.date("nextUpdate", out.next_update);
  fields.hex("fmspc", out.fmspc);
  fields.hex("pceId", out.pceid);
  fields.number("tcbType", tcb_type);
  if (!error && tcb_type != 0) return CollateralError::kUnsupportedFormat;
  fields.number("tcbEvaluationDataNumber", out.evaluation_number);
  read_levels(fields, out.levels, error, [&](Fields& tcb, TcbLevel& level) {
    read_components(tcb, out.version, level.components, error);
    tcb.number("pcesvn", level.pcesvn);
  });
  return error;
}

std::optional<CollateralError> read_qe_identity(const Json& body, QeIdentity& out) {
  std::optional<CollateralError> error;
  Fields fields(body, error);
  fields.number("version", out.version);
  if (!error && out.version != 2) return CollateralError::kUnsupportedFormat;
  fields.text("id", out.id);
  fields.date("issueDate", out.issue_date);
  fields.date("nextUpdate", out.next_update);
  fields.number("tcbEvaluationDataNumber", out.evaluation_number);
  fields.hex("miscselect", out.miscselect);
  fields.hex("miscselectMask", out.miscselect_mask);
  fields.hex("attributes", out.attributes);
  fields.hex("attributesMask", out.attributes_mask);
  fields.hex("mrsigner", out.mrsigner);
  fields.number("isvprodid", out.isvprodid);
  read_levels(fields, out.levels, error, [](Fields& tcb, QeLevel& level) { tcb.number("isvsvn", level.isvsvn); });
  return error;
}

template <class T, class Read>
Result<SignedDocument<T>, CollateralError> parse_signed(std::string_view served, std::string_view name, Read read) {
  if (served.size() > kMaxCollateralSize) return CollateralError::kTooLarge;
  const auto envelope = split_envelope(served, name);
  if (!envelope) return CollateralError::kBadEnvelope;
  SignedDocument<T> document;
  document.body = envelope->body;
  document.signature = envelope->signature;
  const Json body = Json::parse(document.body, nullptr, /*allow_exceptions=*/false);
  if (body.is_discarded()) return CollateralError::kBadJson;
  if (const auto error = read(body, document.value)) return *error;
  return document;
}

}  // namespace

Result<SignedDocument<TcbInfo>, CollateralError> parse_tcb_info(std::string_view served) {
  return parse_signed<TcbInfo>(served, "tcbInfo", read_tcb_info);
}

Result<SignedDocument<QeIdentity>, CollateralError> parse_qe_identity(std::string_view served) {
  return parse_signed<QeIdentity>(served, "enclaveIdentity", read_qe_identity);
}

}  // namespace sealift::attestation
