// The quoting enclave and the service's answers, on a real machine file. (That a verifier accepts the quotes is tested
// where the verifier is.)
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "sgx/aesm.pb.h"
#include "sgx/aesm_error.h"
#include "softsgx/isa/keys.h"
#include "softsgx/quoting/aesm_service.h"
#include "softsgx/quoting/quote.h"

namespace softsgx::quoting {
namespace {

using sgx::aesm::ErrorCode;

std::unique_ptr<Machine> make_machine(const std::string& name, const CreateOptions& options) {
  const std::string path = std::filesystem::temp_directory_path() /
                           ("softsgx-quoting-test-" + std::to_string(::getpid()) + "-" + name + ".machine");
  std::string error;
  std::filesystem::remove(path);
  auto machine = Machine::create(path, options, error);
  EXPECT_TRUE(machine) << error;
  std::filesystem::remove(path);  // the mapping stays
  return machine;
}

class Quoting : public ::testing::Test {
 protected:
  // What EREPORT makes on `machine` for `target`.
  static sgx::Report report_on(const Machine& machine, const sgx::Targetinfo& target) {
    sgx::Report report{};
    std::ranges::copy(machine.cpusvn(), report.body.cpusvn);
    report.body.mrenclave.bytes[0] = 0xee;
    report.body.reportdata[63] = 0x11;
    std::ranges::copy(machine.report_keyid(), report.keyid);
    const keys::Key mac = keys::cmac(keys::report_key(machine, target), std::as_bytes(std::span(&report.body, 1)));
    std::ranges::copy(mac, report.mac);
    return report;
  }

  sgx::aesm::Response ask(const sgx::aesm::Request& request) const {
    sgx::aesm::Response response;
    EXPECT_TRUE(response.ParseFromString(service_.answer(request.SerializeAsString())));
    return response;
  }

  static std::uint32_t number(ErrorCode code) { return static_cast<std::uint32_t>(code); }

  const CreateOptions options_{.epc_bytes = 1 << 20, .cpusvn = {}, .xfrm_allowed = {}, .section_of = {}};
  const std::unique_ptr<Machine> machine_ = make_machine("a", options_);
  const DevelopmentPki pki_;
  const QuotingEnclave enclave_{*machine_, pki_};
  const AesmService service_{enclave_};
};

TEST_F(Quoting, QuotesAReportOfThisMachine) {
  const sgx::Report report = report_on(*machine_, enclave_.targetinfo());
  const auto quote = enclave_.quote(report);
  ASSERT_TRUE(quote);
  EXPECT_EQ(quote->size(), enclave_.quote_size());
  sgx::quote::Signed head;
  std::memcpy(&head, quote->data(), sizeof head);
  EXPECT_EQ(head.header.version, sgx::quote::kVersion3);
  EXPECT_EQ(std::memcmp(&head.body, &report.body, sizeof report.body), 0);
}

TEST_F(Quoting, RefusesAForgedReport) {
  const sgx::Report good = report_on(*machine_, enclave_.targetinfo());
  for (std::size_t i = 0; i < sizeof good.body; ++i) {
    sgx::Report forged = good;
    reinterpret_cast<std::uint8_t*>(&forged.body)[i] ^= 1;
    EXPECT_FALSE(enclave_.quote(forged)) << "byte " << i;
  }
}

TEST_F(Quoting, RefusesAReportForSomebodyElse) {
  sgx::Targetinfo other = enclave_.targetinfo();
  other.measurement.bytes[0] ^= 1;
  EXPECT_FALSE(enclave_.quote(report_on(*machine_, other)));
}

TEST_F(Quoting, RefusesAReportOfAnotherMachine) {
  const auto other = make_machine("b", options_);
  EXPECT_FALSE(enclave_.quote(report_on(*other, enclave_.targetinfo())));
}

TEST_F(Quoting, KeysFollowFromTheFuses) {
  const QuotingEnclave again(*machine_, pki_);
  EXPECT_EQ(again.key_id(), enclave_.key_id());
  EXPECT_EQ(public_point(pck_key(*machine_).get()), public_point(pck_key(*machine_).get()));
  const auto other = make_machine("b", options_);
  EXPECT_NE(QuotingEnclave(*other, pki_).key_id(), enclave_.key_id());
  EXPECT_NE(public_point(pck_key(*other).get()), public_point(pck_key(*machine_).get()));
  EXPECT_NE(platform_of(*other).ppid, platform_of(*machine_).ppid);
}

TEST_F(Quoting, InitNamesTheQuotingEnclave) {
  sgx::aesm::Request request;
  request.mutable_init_quote()->set_want_key_id(true);
  request.mutable_init_quote()->set_buffer_size(32);
  const auto response = ask(request);
  ASSERT_TRUE(response.has_init_quote());
  EXPECT_EQ(response.init_quote().error(), 0U);
  EXPECT_EQ(response.init_quote().key_id_size(), 32U);
  EXPECT_EQ(std::memcmp(response.init_quote().key_id().data(), enclave_.key_id().data(), 32), 0);
  ASSERT_EQ(response.init_quote().target_info().size(), sizeof(sgx::Targetinfo));
  EXPECT_EQ(std::memcmp(response.init_quote().target_info().data(), &enclave_.targetinfo(), 512), 0);
}

TEST_F(Quoting, InitWithTooSmallABuffer) {
  sgx::aesm::Request request;
  request.mutable_init_quote()->set_want_key_id(true);
  request.mutable_init_quote()->set_buffer_size(31);
  EXPECT_EQ(ask(request).init_quote().error(), number(ErrorCode::kParameter));
}

TEST_F(Quoting, KeysAreListedAndSelected) {
  sgx::aesm::Request request;
  request.mutable_key_count();
  EXPECT_EQ(ask(request).key_count().count(), 1U);
  request.Clear();
  request.mutable_key_ids()->set_buffer_size(256);
  const std::string id = ask(request).key_ids().attestation_key_ids();
  ASSERT_EQ(id.size(), sgx::quote::kAttestationKeyIdWire);
  request.mutable_key_ids()->set_buffer_size(255);
  EXPECT_EQ(ask(request).key_ids().error(), number(ErrorCode::kParameter));

  request.Clear();
  request.mutable_select_key();
  EXPECT_EQ(ask(request).select_key().attestation_key_id(), id);
  request.mutable_select_key()->set_attestation_key_ids(std::string(8, '\0') + std::string(256, 'x') + id);
  EXPECT_EQ(ask(request).select_key().attestation_key_id(), id);
  request.mutable_select_key()->set_attestation_key_ids(std::string(8, '\0') + std::string(256, 'x'));
  EXPECT_EQ(ask(request).select_key().error(), number(ErrorCode::kUnsupportedKeyId));
}

// As Gramine and others have it built in.
TEST_F(Quoting, IntelsKeyNameIsTaken) {
  sgx::quote::AttestationKeyId id{};
  id.mrsigner_length = 32;
  std::memcpy(id.mrsigner, sgx::quote::kIntelQeMrsigner, 32);
  id.product_id = 1;
  id.algorithm_id = 2;
  std::string wire(reinterpret_cast<const char*>(&id), sizeof id);
  wire.resize(256);
  sgx::aesm::Request request;
  request.mutable_quote_size()->set_attestation_key_id(wire);
  EXPECT_EQ(ask(request).quote_size().error(), 0U);
  EXPECT_EQ(ask(request).quote_size().quote_size(), enclave_.quote_size());
  wire[6] ^= 1;
  request.mutable_quote_size()->set_attestation_key_id(wire);
  EXPECT_EQ(ask(request).quote_size().error(), number(ErrorCode::kUnsupportedKeyId));
  request.mutable_quote_size()->set_attestation_key_id("short");
  EXPECT_EQ(ask(request).quote_size().error(), number(ErrorCode::kUnsupportedKeyId));
}

sgx::aesm::Request quote_request(const sgx::Report& report, std::uint32_t buffer) {
  sgx::aesm::Request request;
  request.mutable_quote()->set_report(&report, sizeof report);
  request.mutable_quote()->set_buffer_size(buffer);
  return request;
}

TEST_F(Quoting, QuoteIsPaddedToTheClientsBuffer) {
  const sgx::Report report = report_on(*machine_, enclave_.targetinfo());
  const auto response = ask(quote_request(report, 8192));
  EXPECT_EQ(response.quote().error(), 0U);
  EXPECT_EQ(response.quote().quote().size(), 8192U);
  EXPECT_FALSE(response.quote().has_qe_report_info());
}

TEST_F(Quoting, QuoteErrors) {
  const auto size = static_cast<std::uint32_t>(enclave_.quote_size());
  sgx::Report report = report_on(*machine_, enclave_.targetinfo());
  EXPECT_EQ(ask(quote_request(report, size)).quote().error(), 0U);
  EXPECT_EQ(ask(quote_request(report, size - 1)).quote().error(), number(ErrorCode::kParameter));
  EXPECT_EQ(ask(quote_request(report, kMaxQuoteBuffer + 1)).quote().error(), number(ErrorCode::kParameter));
  auto request = quote_request(report, size);
  request.mutable_quote()->mutable_report()->pop_back();
  EXPECT_EQ(ask(request).quote().error(), number(ErrorCode::kParameter));
  request = quote_request(report, size);
  request.mutable_quote()->set_qe_report_info("short");
  EXPECT_EQ(ask(request).quote().error(), number(ErrorCode::kParameter));
  report.mac[0] ^= 1;
  EXPECT_EQ(ask(quote_request(report, size)).quote().error(), number(ErrorCode::kInvalidReport));
}

// The QE's own report about the quote, for the client's enclave to check.
TEST_F(Quoting, QeReportInfo) {
  sgx::Targetinfo app{};
  app.measurement.bytes[0] = 0xee;
  sgx::quote::QeReportInfo info{};
  info.nonce[3] = 9;
  std::memcpy(info.app_targetinfo, &app, sizeof app);
  auto request = quote_request(report_on(*machine_, enclave_.targetinfo()), 8192);
  request.mutable_quote()->set_qe_report_info(&info, sizeof info);
  const auto response = ask(request);
  ASSERT_EQ(response.quote().qe_report_info().size(), sizeof info);
  std::memcpy(&info, response.quote().qe_report_info().data(), sizeof info);
  sgx::Report report;
  std::memcpy(&report, info.qe_report, sizeof report);
  const keys::Key mac = keys::cmac(keys::report_key(*machine_, app), std::as_bytes(std::span(&report.body, 1)));
  EXPECT_EQ(std::memcmp(report.mac, mac.data(), mac.size()), 0);
  EXPECT_EQ(report.body.mrenclave, qe_mrenclave());
  const std::string& quote = response.quote().quote();
  const Digest digest =
      sha256(info.nonce, {reinterpret_cast<const std::uint8_t*>(quote.data()), enclave_.quote_size()});
  EXPECT_EQ(std::memcmp(report.body.reportdata, digest.data(), digest.size()), 0);
}

TEST_F(Quoting, WhatIsNotServedIsSaidSo) {
  sgx::aesm::Response response;
  for (const std::string& request : {std::string(), std::string("\x0a\x00", 2), std::string("\xff\xff\xff"),
                                     std::string("\x8a\x01\x00", 3) /* GetQuoteEx without its fields */}) {
    ASSERT_TRUE(response.ParseFromString(service_.answer(request)));
    EXPECT_TRUE(response.has_unsupported());
    EXPECT_EQ(response.unsupported().error(), number(ErrorCode::kUnexpected));
  }
}

TEST_F(Quoting, CollateralHasEveryFile) {
  const auto files = development_collateral(pki_, 1700000000);
  std::vector<std::string> names;
  for (const auto& file : files) {
    names.push_back(file.name);
    EXPECT_FALSE(file.contents.empty()) << file.name;
  }
  EXPECT_EQ(names, (std::vector<std::string>{"tcb_info.json", "tcb_info_issuer_chain.pem", "qe_identity.json",
                                             "qe_identity_issuer_chain.pem", "pck_crl.der", "pck_crl_issuer_chain.pem",
                                             "root_ca_crl.der"}));
}

}  // namespace
}  // namespace softsgx::quoting
