#include <array>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "softsgx/quoting/pki.h"

namespace softsgx::quoting {
namespace {

using Json = nlohmann::ordered_json;  // fields in the order in which Intel's service writes them

std::string hex(Span bytes, const char* digits) {
  std::string text;
  for (const std::uint8_t byte : bytes) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

std::string upper_hex(Span bytes) {
  return hex(bytes, "0123456789ABCDEF");
}

std::string utc(UnixTime time) {
  const std::chrono::sys_seconds moment{std::chrono::seconds{time}};
  const auto day = std::chrono::floor<std::chrono::days>(moment);
  const std::chrono::year_month_day date{day};
  const std::chrono::hh_mm_ss clock{moment - day};
  std::array<char, 40> text;
  std::snprintf(text.data(), text.size(), "%04d-%02u-%02uT%02d:%02d:%02dZ", static_cast<int>(date.year()),
                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                static_cast<int>(clock.hours().count()), static_cast<int>(clock.minutes().count()),
                static_cast<int>(clock.seconds().count()));
  return text.data();
}

template <class Level>
Json level_json(const Level& level, Json tcb) {
  Json out = {{"tcb", std::move(tcb)}, {"tcbDate", utc(level.tcb_date)}, {"tcbStatus", level.status}};
  if (!level.advisories.empty()) out["advisoryIDs"] = level.advisories;
  return out;
}

}  // namespace

std::string sign_document(std::string_view name, std::string_view body, EVP_PKEY* signer) {
  const Span bytes(reinterpret_cast<const std::uint8_t*>(body.data()), body.size());
  const RawSignature signature = sign_raw(signer, bytes);
  std::string out = "{\"";
  out.append(name).append("\":").append(body).append(",\"signature\":\"");
  return out.append(hex(signature, "0123456789abcdef")).append("\"}");
}

std::string make_tcb_info(const TcbInfoSpec& spec, EVP_PKEY* signer) {
  Json levels = Json::array();
  for (const TcbLevelSpec& level : spec.levels) {
    Json components = Json::array();
    for (const std::uint8_t svn : level.components) components.push_back({{"svn", svn}});
    levels.push_back(level_json(level, {{"sgxtcbcomponents", std::move(components)}, {"pcesvn", level.pcesvn}}));
  }
  const Json body = {{"id", spec.id},
                     {"version", 3},
                     {"issueDate", utc(spec.issue_date)},
                     {"nextUpdate", utc(spec.next_update)},
                     {"fmspc", upper_hex(spec.fmspc)},
                     {"pceId", upper_hex(spec.pceid)},
                     {"tcbType", 0},
                     {"tcbEvaluationDataNumber", spec.evaluation_number},
                     {"tcbLevels", std::move(levels)}};
  return sign_document("tcbInfo", body.dump(), signer);
}

std::string make_qe_identity(const QeIdentitySpec& spec, EVP_PKEY* signer) {
  Json levels = Json::array();
  for (const QeLevelSpec& level : spec.levels) levels.push_back(level_json(level, {{"isvsvn", level.isvsvn}}));
  const Json body = {{"id", spec.id},
                     {"version", 2},
                     {"issueDate", utc(spec.issue_date)},
                     {"nextUpdate", utc(spec.next_update)},
                     {"tcbEvaluationDataNumber", spec.evaluation_number},
                     {"miscselect", upper_hex(spec.miscselect)},
                     {"miscselectMask", upper_hex(spec.miscselect_mask)},
                     {"attributes", upper_hex(spec.attributes)},
                     {"attributesMask", upper_hex(spec.attributes_mask)},
                     {"mrsigner", upper_hex(spec.mrsigner)},
                     {"isvprodid", spec.isvprodid},
                     {"tcbLevels", std::move(levels)}};
  return sign_document("enclaveIdentity", body.dump(), signer);
}

}  // namespace softsgx::quoting
