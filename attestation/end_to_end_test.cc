// From a REPORT on a software machine, over the quoting service's socket, to a verdict; and the client against services
// that misbehave.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <asio/io_context.hpp>
#include <filesystem>
#include <fstream>
#include <thread>

#include "attestation/aesm_client.h"
#include "attestation/collateral_files.h"
#include "attestation/development_anchor.h"
#include "attestation/verify.h"
#include "softsgx/isa/keys.h"
#include "softsgx/quoting/aesm_server.h"

namespace sealift::attestation {
namespace {

namespace gen = softsgx::quoting;

class Folder {
 public:
  Folder() {
    std::string pattern = std::filesystem::temp_directory_path() / "sealift-attestation-XXXXXX";
    path_ = mkdtemp(pattern.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] std::string operator/(const char* name) const { return path_ + "/" + name; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A machine whose quoting service runs until the object goes.
class ServedMachine {
 public:
  ServedMachine(const Folder& folder, std::uint8_t svn) : socket_(folder / "aesm.socket") {
    std::array<std::uint8_t, 16> cpusvn{};
    std::fill_n(cpusvn.begin(), 8, svn);
    std::string error;
    machine_ = softsgx::Machine::create(
        folder / "m.machine", {.epc_bytes = 1 << 20, .cpusvn = cpusvn, .xfrm_allowed = {}, .section_of = {}}, error);
    if (!machine_) throw std::runtime_error(error);
    enclave_ = std::make_unique<gen::QuotingEnclave>(*machine_, pki_);
    service_ = std::make_unique<gen::AesmService>(*enclave_);
    server_ = std::make_unique<gen::AesmServer>(io_, *service_, socket_);
    thread_ = std::thread([this] { io_.run(); });
  }
  ~ServedMachine() {
    io_.stop();
    thread_.join();
  }
  ServedMachine(const ServedMachine&) = delete;
  ServedMachine& operator=(const ServedMachine&) = delete;

  [[nodiscard]] sgx::Report ereport(const sgx::Targetinfo& target) const {
    sgx::Report report{};
    std::ranges::copy(machine_->cpusvn(), report.body.cpusvn);
    report.body.mrenclave.bytes[0] = 0xee;
    report.body.attributes = {sgx::attribute::kInit | sgx::attribute::kMode64Bit, 3};
    std::ranges::copy(machine_->report_keyid(), report.keyid);
    const auto mac =
        softsgx::keys::cmac(softsgx::keys::report_key(*machine_, target), std::as_bytes(std::span(&report.body, 1)));
    std::ranges::copy(mac, report.mac);
    return report;
  }

  [[nodiscard]] const std::string& socket() const { return socket_; }
  [[nodiscard]] const gen::AesmService& service() const { return *service_; }

 private:
  std::string socket_;
  std::unique_ptr<softsgx::Machine> machine_;
  gen::DevelopmentPki pki_;
  std::unique_ptr<gen::QuotingEnclave> enclave_;
  std::unique_ptr<gen::AesmService> service_;
  asio::io_context io_{1};
  std::unique_ptr<gen::AesmServer> server_;
  std::thread thread_;
};

constexpr UnixTime kNow = 1750000000;

Collateral development_collateral(const Folder& folder) {
  const gen::DevelopmentPki pki;
  for (const auto& file : gen::development_collateral(pki, kNow)) {
    std::ofstream(folder / file.name.c_str(), std::ios::binary) << file.contents;
  }
  auto collateral = load_collateral(folder.path());
  EXPECT_TRUE(collateral.ok());
  return std::move(collateral).value();
}

Result<Verdict, VerifyFailure> verdict_for(std::uint8_t svn, const TrustAnchors& anchors) {
  const Folder folder;
  const ServedMachine machine(folder, svn);
  const AesmClient client(machine.socket());
  const auto target = client.get_target_info();
  EXPECT_TRUE(target.ok());
  const auto quote = client.get_quote(machine.ereport(target.value()));
  EXPECT_TRUE(quote.ok());
  return appraise(quote.value(), development_collateral(folder), anchors, kNow + 1);
}

TEST(EndToEnd, NewMachineIsUpToDateUnderTheDevelopmentRoot) {
  const auto result = verdict_for(2, development_anchors());
  ASSERT_TRUE(result.ok()) << verify_error_name(result.error().error) << ' ' << result.error().cause;
  EXPECT_EQ(result.value().status, TcbStatus::kUpToDate);
  EXPECT_TRUE(result.value().development_root);
  EXPECT_EQ(result.value().report.mrenclave.bytes[0], 0xee);
  EXPECT_EQ(result.value().expiry, kNow + gen::kCollateralDays * 86400);
}

TEST(EndToEnd, ProductionAnchorsRefuseTheDevelopmentRoot) {
  const auto result = verdict_for(2, production_anchors());
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error(), (VerifyFailure{VerifyError::kPckChain, static_cast<int>(ChainError::kUntrustedRoot)}));
}

TEST(EndToEnd, OlderMachinesAreOutOfDateOrRevoked) {
  EXPECT_EQ(verdict_for(1, development_anchors()).value().status, TcbStatus::kOutOfDate);
  EXPECT_EQ(verdict_for(0, development_anchors()).value().status, TcbStatus::kRevoked);
}

TEST(EndToEnd, AnchorIsTheRootThatSoftsgxUses) {
  const gen::DevelopmentPki pki;
  EXPECT_EQ(gen::public_point(pki.root.key.get()), kSoftsgxDevelopmentRoot);
}

TEST(AesmClient, ForgedReportIsRefusedByTheService) {
  const Folder folder;
  const ServedMachine machine(folder, 2);
  const AesmClient client(machine.socket());
  const auto result = client.get_quote(machine.ereport({}));
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().kind, AesmErrorKind::kService);
  EXPECT_EQ(result.error().code, 47U);
}

TEST(AesmClient, NobodyListens) {
  const Folder folder;
  const auto result = AesmClient(folder / "none").get_target_info();
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().kind, AesmErrorKind::kConnect);
  EXPECT_EQ(AesmClient(std::string(200, 'x')).get_target_info().error().kind, AesmErrorKind::kConnect);
}

TEST(AesmServer, ReplacesAStaleSocketButNoLiveOneAndNoFile) {
  const Folder folder;
  const std::string path = folder / "aesm.socket";
  {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ::close(fd);  // as a killed service leaves it
  }
  {
    const ServedMachine machine(folder, 2);
    EXPECT_TRUE(AesmClient(path).get_target_info().ok());
    asio::io_context io;
    EXPECT_THROW(gen::AesmServer(io, machine.service(), path), std::runtime_error);
    EXPECT_TRUE(AesmClient(path).get_target_info().ok());
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  const Folder other;
  std::ofstream(other / "aesm.socket") << "a file of somebody's";
  EXPECT_THROW(ServedMachine(other, 2), std::runtime_error);
  EXPECT_TRUE(std::filesystem::exists(other / "aesm.socket"));
}

TEST(AesmServer, OversizedRequestIsCutOff) {
  const Folder folder;
  const ServedMachine machine(folder, 2);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  machine.socket().copy(address.sun_path, sizeof address.sun_path - 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  const std::uint32_t size = gen::kMaxRequest + 1;
  ASSERT_EQ(::send(fd, &size, sizeof size, MSG_NOSIGNAL), static_cast<ssize_t>(sizeof size));
  char byte;
  EXPECT_EQ(::recv(fd, &byte, 1, 0), 0);
  ::close(fd);
}

// Answers the first connection with `response`, whatever the request.
class FakeService {
 public:
  FakeService(const std::string& path, std::string response) : response_(std::move(response)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    listener_ = ::socket(AF_UNIX, SOCK_STREAM, 0);
    if (::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener_, 1) != 0) {
      throw std::runtime_error("cannot listen on " + path);
    }
    thread_ = std::thread([this] {
      const int fd = ::accept(listener_, nullptr, nullptr);
      std::array<char, 512> request;
      if (::recv(fd, request.data(), request.size(), 0) > 0 && !response_.empty()) {
        EXPECT_GT(::send(fd, response_.data(), response_.size(), MSG_NOSIGNAL), 0);
      }
      ::close(fd);
    });
  }
  ~FakeService() {
    thread_.join();
    ::close(listener_);
  }
  FakeService(const FakeService&) = delete;
  FakeService& operator=(const FakeService&) = delete;

 private:
  std::string response_;
  int listener_ = -1;
  std::thread thread_;
};

AesmErrorKind kind_of_answer(const std::string& response) {
  const Folder folder;
  const FakeService service(folder / "s", response);
  const auto result = AesmClient(folder / "s").get_target_info();
  EXPECT_FALSE(result.ok());
  EXPECT_FALSE(result.error().message.empty());
  return result.error().kind;
}

TEST(AesmClient, BrokenAnswers) {
  EXPECT_EQ(kind_of_answer(""), AesmErrorKind::kIo);                                               // closed at once
  EXPECT_EQ(kind_of_answer(std::string("\x10\x00\x00\x00\x01", 5)), AesmErrorKind::kIo);           // cut short
  EXPECT_EQ(kind_of_answer("\xff\xff\xff\xff"), AesmErrorKind::kBadResponse);                      // too large
  EXPECT_EQ(kind_of_answer(std::string("\x01\x00\x00\x00\xff", 5)), AesmErrorKind::kBadResponse);  // no message
  EXPECT_EQ(kind_of_answer(std::string("\0\0\0\0", 4)), AesmErrorKind::kBadResponse);              // an empty one
}

TEST(CollateralFiles, MissingFileIsNamed) {
  const Folder folder;
  const auto result = load_collateral(folder.path());
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().find("tcb_info.json"), std::string::npos);
}

}  // namespace
}  // namespace sealift::attestation
