// Quotes of real CPUs with the collateral of their time. The data is not ours to publish: it is read from
// SEALIFT_DCAP_VECTORS (a folder beside the checkout), and where that is absent these tests are skipped.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "attestation/verify.h"

namespace sealift::attestation {
namespace {

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

Bytes read_bytes(const std::string& path) {
  const std::string text = read_file(path);
  return {text.begin(), text.end()};
}

struct Vector {
  Bytes quote;
  Collateral collateral;
  nlohmann::json facts;

  [[nodiscard]] UnixTime time() const { return facts["verification_time"].get<UnixTime>(); }
};

class Genuine : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::ifstream(folder("intel-sgx-root-ca") + "current-2049.der")) {
      GTEST_SKIP() << "no genuine vectors at " SEALIFT_DCAP_VECTORS;
    }
  }

  static std::string folder(const std::string& name) { return std::string(SEALIFT_DCAP_VECTORS "/") + name + "/"; }

  static Vector load(const std::string& name) {
    const std::string at = folder(name);
    Vector v;
    v.quote = read_bytes(at + "quote.bin");
    v.collateral.tcb_info = read_file(at + "tcb_info.json");
    v.collateral.tcb_info_issuer_chain = read_file(at + "tcb_info_issuer_chain.pem");
    v.collateral.qe_identity = read_file(at + "qe_identity.json");
    v.collateral.qe_identity_issuer_chain = read_file(at + "qe_identity_issuer_chain.pem");
    v.collateral.pck_crl = read_bytes(at + "pck_crl.der");
    v.collateral.root_ca_crl = read_bytes(at + "root_ca_crl.der");
    v.facts = nlohmann::json::parse(read_file(at + "vectors.json"));
    return v;
  }

  static Result<Verdict, VerifyFailure> appraise_at(const Vector& v, UnixTime now) {
    return appraise(v.quote, v.collateral, production_anchors(), now);
  }

  // The verdict agrees with every fact that the vector's maker wrote down.
  static void expect_accepted(const std::string& name) {
    const Vector v = load(name);
    const auto result = appraise_at(v, v.time());
    ASSERT_TRUE(result.ok()) << verify_error_name(result.error().error) << ' ' << result.error().cause;
    const Verdict& verdict = result.value();
    EXPECT_STREQ(tcb_status_name(verdict.status), v.facts["expected"].get<std::string>().c_str());
    EXPECT_EQ(verdict.advisories, v.facts["result"]["advisory_ids"].get<std::vector<std::string>>());
    EXPECT_EQ(verdict.expiry, *parse_utc(v.facts["validity"]["not_after"].get<std::string>()));
    EXPECT_EQ(verdict.tcb_date, *parse_utc(v.facts["result"]["tcb_date"].get<std::string>()));
    EXPECT_FALSE(verdict.development_root);

    const auto& pck = v.facts["quote"]["pck"]["sgx"];
    EXPECT_EQ(Bytes(verdict.platform.fmspc.begin(), verdict.platform.fmspc.end()),
              decode_hex(pck["fmspc"].get<std::string>()));
    EXPECT_EQ(Bytes(verdict.platform.ppid.begin(), verdict.platform.ppid.end()),
              decode_hex(pck["ppid"].get<std::string>()));
    EXPECT_EQ(verdict.platform.components, pck["comps"].get<TcbComponents>());
    EXPECT_EQ(verdict.platform.pcesvn, pck["pcesvn"].get<std::uint16_t>());

    const auto mrenclave = decode_hex(v.facts["quote"]["report"]["mrenclave"].get<std::string>());
    EXPECT_EQ(Bytes(std::begin(verdict.report.mrenclave.bytes), std::end(verdict.report.mrenclave.bytes)), mrenclave);
  }
};

TEST_F(Genuine, OutOfDatePlatformOf2023) {
  expect_accepted("intel-rs-outofdate-2023");
}
TEST_F(Genuine, SwHardeningNeededPlatformOf2023) {
  expect_accepted("intel-rs-swhardening-2023");
}
TEST_F(Genuine, ConfigurationAndSwHardeningNeededPlatformOf2025) {
  expect_accepted("phala-sgx-2025");
}

TEST_F(Genuine, IdentityOfAnotherEnclaveIsRefused) {
  const Vector v = load("mix-wrong-qeid-qve");
  const auto result = appraise_at(v, v.time());
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().error, VerifyError::kQeIdentityWrongId);
}

TEST_F(Genuine, TamperedPckLeafIsRefused) {
  const Vector v = load("neg-pck-leaf-tampered");
  const auto result = appraise_at(v, v.time());
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error(), (VerifyFailure{VerifyError::kPckChain, static_cast<int>(ChainError::kBrokenChain)}));
}

// The edges of each vector's window, to the second, as its maker computed them from every date in it.
TEST_F(Genuine, AcceptedExactlyInsideTheWindow) {
  for (const char* name : {"intel-rs-outofdate-2023", "intel-rs-swhardening-2023", "phala-sgx-2025"}) {
    SCOPED_TRACE(name);
    const Vector v = load(name);
    const UnixTime begin = *parse_utc(v.facts["validity"]["not_before"].get<std::string>());
    const UnixTime end = *parse_utc(v.facts["validity"]["not_after"].get<std::string>());
    EXPECT_FALSE(appraise_at(v, begin - 1).ok());
    EXPECT_TRUE(appraise_at(v, begin).ok());
    EXPECT_TRUE(appraise_at(v, end - 1).ok());
    EXPECT_FALSE(appraise_at(v, end).ok());
  }
}

TEST_F(Genuine, EveryFlippedByteOfTheQuoteIsRefused) {
  const Vector v = load("phala-sgx-2025");
  const auto quote = parse_quote(v.quote);
  ASSERT_TRUE(quote.ok());
  // Certification data is PEM: the case of nothing in it matters except bytes outside of the blocks, which are
  // comments.
  const std::size_t checked = v.quote.size() - quote.value().cert_data.size();
  for (std::size_t i = 0; i < checked; ++i) {
    Vector flipped = v;
    flipped.quote[i] ^= 1;
    EXPECT_FALSE(appraise_at(flipped, v.time()).ok()) << "byte " << i;
  }
}

TEST_F(Genuine, CollateralOfAnotherPlatformIsRefused) {
  Vector v = load("intel-rs-outofdate-2023");
  const Vector other = load("intel-rs-swhardening-2023");
  v.collateral.tcb_info = other.collateral.tcb_info;
  const auto result = appraise_at(v, v.time());
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().error, VerifyError::kTcbInfoOtherPlatform);
}

TEST_F(Genuine, CrlOfAnotherCaIsRefused) {
  Vector v = load("intel-rs-outofdate-2023");              // issued by the Processor CA
  const Vector other = load("intel-rs-swhardening-2023");  // by the Platform CA
  v.collateral.pck_crl = other.collateral.pck_crl;
  const auto result = appraise_at(v, v.time());
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error(), (VerifyFailure{VerifyError::kPckChain, static_cast<int>(ChainError::kNoCrl)}));
}

TEST_F(Genuine, CrlsInPemAndHexadecimalAreTheSame) {
  Vector v = load("phala-sgx-2025");
  const std::string at = folder("phala-sgx-2025");
  v.collateral.root_ca_crl = read_bytes(at + "root_ca_crl.pem");
  const Bytes der = read_bytes(at + "pck_crl.der");
  std::string digits;
  for (const std::uint8_t byte : der) {
    digits += "0123456789abcdef"[byte >> 4];
    digits += "0123456789abcdef"[byte & 15];
  }
  v.collateral.pck_crl.assign(digits.begin(), digits.end());
  EXPECT_TRUE(appraise_at(v, v.time()).ok());
}

TEST_F(Genuine, ChainInTheOrderLeafRootIntermediate) {
  const Vector v = load("phala-sgx-2025");
  auto quote = parse_quote(v.quote);
  ASSERT_TRUE(quote.ok());
  const std::string pem(quote.value().pck_chain());
  constexpr std::string_view kBegin = "-----BEGIN CERTIFICATE-----";
  const std::size_t second = pem.find(kBegin, 1), third = pem.find(kBegin, second + 1);
  const std::string reordered = pem.substr(0, second) + pem.substr(third) + "\n" + pem.substr(second, third - second);
  quote.value().cert_data.assign(reordered.begin(), reordered.end());
  EXPECT_TRUE(appraise(serialize_quote(quote.value()), v.collateral, production_anchors(), v.time()).ok());
}

TEST_F(Genuine, QuotesSurviveParsingAndSerializing) {
  for (const char* name : {"intel-rs-outofdate-2023", "intel-rs-swhardening-2023", "phala-sgx-2025"}) {
    const Vector v = load(name);
    const auto quote = parse_quote(v.quote);
    ASSERT_TRUE(quote.ok()) << name;
    EXPECT_EQ(serialize_quote(quote.value()), v.quote) << name;
    EXPECT_EQ(quote_size(v.quote), v.quote.size()) << name;
  }
}

TEST_F(Genuine, ProductionAnchorIsTheKeyOfTheRootCertificate) {
  const Bytes der = read_bytes(folder("intel-sgx-root-ca") + "current-2049.der");
  const std::uint8_t* at = der.data();
  const CertPtr root(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
  ASSERT_TRUE(root);
  const TrustAnchors anchors = production_anchors();
  ASSERT_EQ(anchors.roots.size(), 1U);
  EXPECT_EQ(p256_point(X509_get0_pubkey(root.get())), anchors.roots[0].key);
  EXPECT_FALSE(anchors.roots[0].development);
}

}  // namespace
}  // namespace sealift::attestation
