// Every error of the collateral decoders, by name, and what they accept.
#include "attestation/collateral.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "attestation/evidence.h"

namespace sealift::attestation {
namespace {

using Json = nlohmann::ordered_json;

const std::string kSignature(128, 'a');

std::string served(const std::string& name, const Json& body) {
  return "{\"" + name + "\":" + body.dump() + ",\"signature\":\"" + kSignature + "\"}";
}

Json tcb_body() {
  Json components = Json::array();
  for (int i = 0; i < 16; ++i) components.push_back({{"svn", i}});
  return {{"id", "SGX"},
          {"version", 3},
          {"issueDate", "2025-06-19T10:56:11Z"},
          {"nextUpdate", "2025-07-19T10:56:11Z"},
          {"fmspc", "00a067110000"},
          {"pceId", "0001"},
          {"tcbType", 0},
          {"tcbEvaluationDataNumber", 17},
          {"tcbLevels",
           {{{"tcb", {{"sgxtcbcomponents", components}, {"pcesvn", 13}}},
             {"tcbDate", "2024-03-13T00:00:00Z"},
             {"tcbStatus", "SWHardeningNeeded"},
             {"advisoryIDs", {"INTEL-SA-00615"}}}}}};
}

Json qe_body() {
  return {{"id", "QE"},
          {"version", 2},
          {"issueDate", "2025-06-19T10:01:18Z"},
          {"nextUpdate", "2025-07-19T10:01:18Z"},
          {"tcbEvaluationDataNumber", 17},
          {"miscselect", "00000000"},
          {"miscselectMask", "FFFFFFFF"},
          {"attributes", "11000000000000000000000000000000"},
          {"attributesMask", "FBFFFFFFFFFFFFFF0000000000000000"},
          {"mrsigner", std::string(64, '8')},
          {"isvprodid", 1},
          {"tcbLevels", {{{"tcb", {{"isvsvn", 8}}}, {"tcbDate", "2024-03-13T00:00:00Z"}, {"tcbStatus", "UpToDate"}}}}};
}

CollateralError tcb_error(const std::string& text) {
  const auto result = parse_tcb_info(text);
  EXPECT_FALSE(result.ok()) << text;
  return result.ok() ? CollateralError{-1} : result.error();
}

CollateralError tcb_error(const Json& body) {
  return tcb_error(served("tcbInfo", body));
}

CollateralError qe_error(const Json& body) {
  const auto result = parse_qe_identity(served("enclaveIdentity", body));
  EXPECT_FALSE(result.ok());
  return result.ok() ? CollateralError{-1} : result.error();
}

TEST(TcbInfo, Version3) {
  const auto result = parse_tcb_info(served("tcbInfo", tcb_body()));
  ASSERT_TRUE(result.ok());
  const TcbInfo& info = result.value().value;
  EXPECT_EQ(info.id, "SGX");
  EXPECT_EQ(info.fmspc, (std::array<std::uint8_t, 6>{0x00, 0xa0, 0x67, 0x11, 0x00, 0x00}));
  EXPECT_EQ(info.pceid, (std::array<std::uint8_t, 2>{0, 1}));
  EXPECT_EQ(info.issue_date, 1750330571);
  EXPECT_EQ(info.evaluation_number, 17U);
  ASSERT_EQ(info.levels.size(), 1U);
  EXPECT_EQ(info.levels[0].components[15], 15);
  EXPECT_EQ(info.levels[0].pcesvn, 13);
  EXPECT_EQ(info.levels[0].status, TcbStatus::kSwHardeningNeeded);
  EXPECT_EQ(info.levels[0].advisories, std::vector<std::string>{"INTEL-SA-00615"});
  EXPECT_EQ(result.value().body, tcb_body().dump());
  EXPECT_EQ(result.value().signature[0], 0xaa);
}

TEST(TcbInfo, Version2NamesItsComponentsAndHasNoId) {
  Json body = tcb_body();
  body.erase("id");
  body["version"] = 2;
  Json tcb = {{"pcesvn", 11}};
  for (int i = 1; i <= 16; ++i) tcb["sgxtcbcomp" + std::string(i < 10 ? "0" : "") + std::to_string(i) + "svn"] = i;
  body["tcbLevels"][0]["tcb"] = tcb;
  const auto result = parse_tcb_info(served("tcbInfo", body));
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result.value().value.id, "SGX");
  EXPECT_EQ(result.value().value.levels[0].components[0], 1);
  EXPECT_EQ(result.value().value.levels[0].components[15], 16);
  body["tcbLevels"][0]["tcb"].erase("sgxtcbcomp16svn");
  EXPECT_EQ(tcb_error(body), CollateralError::kMissingField);
}

TEST(TcbInfo, EveryMissingField) {
  const Json whole = tcb_body();
  for (const auto& field : whole.items()) {
    Json body = tcb_body();
    body.erase(field.key());
    EXPECT_EQ(tcb_error(body), CollateralError::kMissingField) << field.key();
  }
  for (const char* field : {"tcb", "tcbDate", "tcbStatus"}) {
    Json body = tcb_body();
    body["tcbLevels"][0].erase(field);
    EXPECT_EQ(tcb_error(body), CollateralError::kMissingField) << field;
  }
  for (const char* field : {"sgxtcbcomponents", "pcesvn"}) {
    Json body = tcb_body();
    body["tcbLevels"][0]["tcb"].erase(field);
    EXPECT_EQ(tcb_error(body), CollateralError::kMissingField) << field;
  }
}

TEST(TcbInfo, EveryFieldOfAnotherType) {
  const Json whole = tcb_body();
  for (const auto& field : whole.items()) {
    Json body = tcb_body();
    body[field.key()] = Json::object();
    EXPECT_EQ(tcb_error(body), CollateralError::kBadField) << field.key();
  }
}

TEST(TcbInfo, BadFields) {
  const auto with = [](const char* field, Json value) {
    Json body = tcb_body();
    body[field] = std::move(value);
    return tcb_error(body);
  };
  EXPECT_EQ(with("fmspc", "00"), CollateralError::kBadField);
  EXPECT_EQ(with("fmspc", "00a06711000g"), CollateralError::kBadField);
  EXPECT_EQ(with("tcbEvaluationDataNumber", -1), CollateralError::kBadField);
  EXPECT_EQ(with("tcbEvaluationDataNumber", 0x100000000), CollateralError::kBadField);
  EXPECT_EQ(with("tcbEvaluationDataNumber", 1.5), CollateralError::kBadField);
  EXPECT_EQ(with("tcbLevels", {1}), CollateralError::kBadField);
  Json body = tcb_body();
  body["tcbLevels"][0]["tcb"]["sgxtcbcomponents"][3]["svn"] = 256;
  EXPECT_EQ(tcb_error(body), CollateralError::kBadField);
  body = tcb_body();
  body["tcbLevels"][0]["tcb"]["sgxtcbcomponents"].erase(0);
  EXPECT_EQ(tcb_error(body), CollateralError::kBadField);
  body = tcb_body();
  body["tcbLevels"][0]["tcb"]["pcesvn"] = 65536;
  EXPECT_EQ(tcb_error(body), CollateralError::kBadField);
  body = tcb_body();
  body["tcbLevels"][0]["advisoryIDs"] = {1};
  EXPECT_EQ(tcb_error(body), CollateralError::kBadField);
  body = tcb_body();
  body["tcbLevels"][0]["advisoryIDs"] = "INTEL-SA-00615";
  EXPECT_EQ(tcb_error(body), CollateralError::kBadField);
}

TEST(TcbInfo, BadDates) {
  for (const char* date : {"", "2025-06-19", "2025-06-19T10:56:11", "2025-06-19T10:56:11z", "2025-13-19T10:56:11Z",
                           "2025-02-29T10:56:11Z", "2025-06-19T24:00:00Z", "2025-06-19T10:60:00Z",
                           "2025-06-19T10:56:60Z", "2025-06-19 10:56:11Z", "+025-06-19T10:56:11Z"}) {
    Json body = tcb_body();
    body["nextUpdate"] = date;
    EXPECT_EQ(tcb_error(body), CollateralError::kBadDate) << date;
  }
  EXPECT_EQ(parse_utc("1970-01-01T00:00:00Z"), 0);
  EXPECT_EQ(parse_utc("2024-02-29T23:59:59Z"), 1709251199);
}

TEST(TcbInfo, UnknownStatus) {
  Json body = tcb_body();
  body["tcbLevels"][0]["tcbStatus"] = "Splendid";
  EXPECT_EQ(tcb_error(body), CollateralError::kUnknownStatus);
}

TEST(TcbInfo, UnsupportedFormats) {
  Json body = tcb_body();
  body["version"] = 4;
  EXPECT_EQ(tcb_error(body), CollateralError::kUnsupportedFormat);
  body = tcb_body();
  body["tcbType"] = 1;
  EXPECT_EQ(tcb_error(body), CollateralError::kUnsupportedFormat);
}

TEST(TcbInfo, NoLevels) {
  Json body = tcb_body();
  body["tcbLevels"] = Json::array();
  EXPECT_EQ(tcb_error(body), CollateralError::kNoLevels);
}

TEST(TcbInfo, BadJson) {
  EXPECT_EQ(tcb_error("{\"tcbInfo\":{\"id\":},\"signature\":\"" + kSignature + "\"}"), CollateralError::kBadJson);
}

TEST(TcbInfo, TooLarge) {
  EXPECT_EQ(tcb_error(std::string(kMaxCollateralSize + 1, ' ')), CollateralError::kTooLarge);
}

TEST(Envelope, BodyIsTakenByteForByte) {
  const std::string body = R"({ "a" : "}\"{" , "b":{"c":[{}]} })";
  const std::string text = " {\n\"x\" : " + body + " ,\"signature\": \"" + kSignature + "\" }\n";
  const auto envelope = split_envelope(text, "x");
  ASSERT_TRUE(envelope);
  EXPECT_EQ(envelope->body, body);
  EXPECT_TRUE(split_envelope("{\"x\":" + body + ",\"signature\":\"" + kSignature + "\"}" + std::string(1, '\0'), "x"));
}

TEST(Envelope, Malformed) {
  const std::string good = "{\"x\":{},\"signature\":\"" + kSignature + "\"}";
  ASSERT_TRUE(split_envelope(good, "x"));
  EXPECT_FALSE(split_envelope(good, "y"));
  EXPECT_FALSE(split_envelope(good, "xx"));
  EXPECT_FALSE(split_envelope(good + "}", "x"));
  EXPECT_FALSE(split_envelope(good + good, "x"));
  for (std::size_t size = 0; size < good.size(); ++size)
    EXPECT_FALSE(split_envelope(good.substr(0, size), "x")) << size;
  for (const char* text : {"{\"x\":}", "{\"x\":[]}", "{\"x\":\"}\"", "{\"x\":{\"", "{\"x\":{\"\\", "{\"x\":{{}", "}"}) {
    EXPECT_FALSE(split_envelope(text, "x")) << text;
  }
  std::string digits = good;
  digits[digits.find('a')] = 'g';
  EXPECT_FALSE(split_envelope(digits, "x"));
  EXPECT_FALSE(split_envelope("{\"x\":{},\"signature\":\"" + kSignature + "aa\"}", "x"));
  EXPECT_FALSE(split_envelope("{\"signature\":\"" + kSignature + "\",\"x\":{}}", "x"));
}

TEST(QeIdentity, Good) {
  const auto result = parse_qe_identity(served("enclaveIdentity", qe_body()));
  ASSERT_TRUE(result.ok());
  const QeIdentity& qe = result.value().value;
  EXPECT_EQ(qe.id, "QE");
  EXPECT_EQ(qe.attributes[0], 0x11);
  EXPECT_EQ(qe.attributes_mask[0], 0xfb);
  EXPECT_EQ(qe.mrsigner[31], 0x88);
  EXPECT_EQ(qe.isvprodid, 1);
  ASSERT_EQ(qe.levels.size(), 1U);
  EXPECT_EQ(qe.levels[0].isvsvn, 8);
}

TEST(QeIdentity, EveryMissingField) {
  const Json whole = qe_body();
  for (const auto& field : whole.items()) {
    Json body = qe_body();
    body.erase(field.key());
    EXPECT_EQ(qe_error(body), CollateralError::kMissingField) << field.key();
  }
  Json body = qe_body();
  body["tcbLevels"][0]["tcb"].erase("isvsvn");
  EXPECT_EQ(qe_error(body), CollateralError::kMissingField);
}

TEST(QeIdentity, EveryFieldOfAnotherType) {
  const Json whole = qe_body();
  for (const auto& field : whole.items()) {
    Json body = qe_body();
    body[field.key()] = Json::object();
    EXPECT_EQ(qe_error(body), CollateralError::kBadField) << field.key();
  }
}

TEST(QeIdentity, UnsupportedFormat) {
  Json body = qe_body();
  body["version"] = 3;
  EXPECT_EQ(qe_error(body), CollateralError::kUnsupportedFormat);
}

TEST(TcbStatus, NamesAndCombination) {
  for (int i = 0; i <= static_cast<int>(TcbStatus::kRevoked); ++i) {
    const auto status = static_cast<TcbStatus>(i);
    EXPECT_EQ(parse_tcb_status(tcb_status_name(status)), status);
    EXPECT_EQ(combine(status, TcbStatus::kUpToDate), status);
    EXPECT_EQ(combine(status, TcbStatus::kRevoked), TcbStatus::kRevoked);
  }
  EXPECT_EQ(combine(TcbStatus::kUpToDate, TcbStatus::kOutOfDate), TcbStatus::kOutOfDate);
  EXPECT_EQ(combine(TcbStatus::kSwHardeningNeeded, TcbStatus::kOutOfDate), TcbStatus::kOutOfDate);
  EXPECT_EQ(combine(TcbStatus::kOutOfDate, TcbStatus::kOutOfDate), TcbStatus::kOutOfDate);
  EXPECT_EQ(combine(TcbStatus::kConfigurationNeeded, TcbStatus::kOutOfDate), TcbStatus::kOutOfDateConfigurationNeeded);
  EXPECT_EQ(combine(TcbStatus::kOutOfDateConfigurationNeeded, TcbStatus::kOutOfDate),
            TcbStatus::kOutOfDateConfigurationNeeded);
}

// --- The containers ---

Collateral sample() {
  return {"tcb", "chain 1", "qe", "chain 2", {1, 2, 3}, {}};
}

CollateralError container_error(const Bytes& bytes) {
  const auto result = parse_collateral(bytes);
  EXPECT_FALSE(result.ok());
  return result.ok() ? CollateralError{-1} : result.error();
}

TEST(CollateralContainer, RoundTrip) {
  const auto result = parse_collateral(serialize_collateral(sample()));
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result.value(), sample());
}

TEST(CollateralContainer, BadMagic) {
  Bytes bytes = serialize_collateral(sample());
  bytes[0] ^= 1;
  EXPECT_EQ(container_error(bytes), CollateralError::kBadMagic);
  EXPECT_EQ(container_error({}), CollateralError::kBadMagic);
}

TEST(CollateralContainer, UnsupportedVersion) {
  Bytes bytes = serialize_collateral(sample());
  bytes[4] = 2;
  EXPECT_EQ(container_error(bytes), CollateralError::kUnsupportedContainer);
}

TEST(CollateralContainer, TruncatedAtEveryLength) {
  const Bytes whole = serialize_collateral(sample());
  for (std::size_t size = 4; size < whole.size(); ++size) {
    EXPECT_EQ(container_error(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size))),
              CollateralError::kTruncated);
  }
}

TEST(CollateralContainer, TrailingBytes) {
  Bytes bytes = serialize_collateral(sample());
  bytes.push_back(0);
  EXPECT_EQ(container_error(bytes), CollateralError::kTrailingBytes);
}

TEST(CollateralContainer, TooLarge) {
  EXPECT_EQ(container_error(Bytes(kMaxCollateralSize + 1)), CollateralError::kTooLarge);
}

EvidenceError evidence_error(const Bytes& bytes) {
  const auto result = parse_evidence(bytes);
  EXPECT_FALSE(result.ok());
  return result.ok() ? EvidenceError{-1} : result.error();
}

TEST(EvidenceContainer, RoundTripAndErrors) {
  const Bytes whole = serialize_evidence({{1, 2, 3}, {4}});
  const auto result = parse_evidence(whole);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result.value().quote, (Bytes{1, 2, 3}));
  EXPECT_EQ(result.value().collateral, Bytes{4});

  Bytes bytes = whole;
  bytes[3] ^= 1;
  EXPECT_EQ(evidence_error(bytes), EvidenceError::kBadMagic);
  bytes = whole;
  bytes[4] = 9;
  EXPECT_EQ(evidence_error(bytes), EvidenceError::kUnsupportedVersion);
  bytes = whole;
  bytes.push_back(0);
  EXPECT_EQ(evidence_error(bytes), EvidenceError::kTrailingBytes);
  EXPECT_EQ(evidence_error(Bytes(kMaxEvidenceSize + 1)), EvidenceError::kTooLarge);
  for (std::size_t size = 4; size < whole.size(); ++size) {
    EXPECT_EQ(evidence_error(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size))),
              EvidenceError::kTruncated);
  }
}

}  // namespace
}  // namespace sealift::attestation
