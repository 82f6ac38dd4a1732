#include "softsgx/isa/test_support.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/rsa.h>
#include <unistd.h>

#include <algorithm>
#include <stdexcept>

#include "softsgx/isa/measurement.h"

namespace softsgx::test {
namespace {

void require(bool ok, const char* what) {
  if (!ok) throw std::runtime_error(what);
}

EVP_PKEY* make_key() {
  EVP_PKEY_CTX* ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_RSA, nullptr);
  BIGNUM* three = BN_new();
  EVP_PKEY* key = nullptr;
  require(BN_set_word(three, 3) == 1 && EVP_PKEY_keygen_init(ctx) == 1 &&
              EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, 3072) == 1 &&
              EVP_PKEY_CTX_set1_rsa_keygen_pubexp(ctx, three) == 1 && EVP_PKEY_keygen(ctx, &key) == 1,
          "RSA key");
  BN_free(three);
  EVP_PKEY_CTX_free(ctx);
  return key;
}

void store(std::uint8_t (&to)[sgx::kRsaBytes], const BIGNUM* from) {
  require(BN_bn2lebinpad(from, to, sgx::kRsaBytes) == static_cast<int>(sgx::kRsaBytes), "number too large");
}

}  // namespace

EVP_PKEY* signing_key() {
  static EVP_PKEY* const key = make_key();
  return key;
}

EVP_PKEY* other_signing_key() {
  static EVP_PKEY* const key = make_key();
  return key;
}

void sign(sgx::Sigstruct& s, EVP_PKEY* key) {
  BIGNUM* modulus = nullptr;
  require(EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &modulus) == 1, "modulus");
  store(s.modulus, modulus);
  std::vector<std::uint8_t> message(sgx::kSigstructSignedHead + sgx::kSigstructBodySize);
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(&s);
  std::copy_n(bytes, sgx::kSigstructSignedHead, message.begin());
  std::copy_n(bytes + sgx::kSigstructBody, sgx::kSigstructBodySize, message.begin() + sgx::kSigstructSignedHead);
  std::uint8_t signature[sgx::kRsaBytes];
  std::size_t length = sizeof(signature);
  EVP_MD_CTX* md = EVP_MD_CTX_new();
  require(EVP_DigestSignInit(md, nullptr, EVP_sha256(), nullptr, key) == 1 &&
              EVP_DigestSign(md, signature, &length, message.data(), message.size()) == 1,
          "signature");
  EVP_MD_CTX_free(md);
  std::reverse_copy(std::begin(signature), std::end(signature), std::begin(s.signature));
  // q1 = S^2 / M; q2 = (S^3 - q1 * S * M) / M, literally.
  BN_CTX* ctx = BN_CTX_new();
  BIGNUM *sig = BN_bin2bn(signature, sizeof(signature), nullptr), *q1 = BN_new(), *q2 = BN_new(), *t = BN_new(),
         *u = BN_new();
  require(BN_sqr(t, sig, ctx) == 1 && BN_div(q1, nullptr, t, modulus, ctx) == 1 && BN_mul(t, t, sig, ctx) == 1 &&
              BN_mul(u, q1, sig, ctx) == 1 && BN_mul(u, u, modulus, ctx) == 1 && BN_sub(t, t, u) == 1 &&
              BN_div(q2, nullptr, t, modulus, ctx) == 1,
          "q1, q2");
  store(s.q1, q1);
  store(s.q2, q2);
  for (BIGNUM* n : {sig, q1, q2, t, u, modulus}) BN_free(n);
  BN_CTX_free(ctx);
}

sgx::Sigstruct unsigned_sigstruct(const sgx::Secs& secs, const sgx::Measurement& mrenclave) {
  sgx::Sigstruct s{};
  std::copy(std::begin(sgx::kSigstructHeader), std::end(sgx::kSigstructHeader), s.header);
  std::copy(std::begin(sgx::kSigstructHeader2), std::end(sgx::kSigstructHeader2), s.header2);
  s.date = 0x20260101;
  s.exponent = 3;
  s.miscselect = secs.miscselect;
  s.miscmask = ~0u;
  s.attributes = secs.attributes;
  s.attributemask = {~0ull, ~0ull};
  s.enclavehash = mrenclave;
  s.isvprodid = 7;
  s.isvsvn = 5;
  return s;
}

sgx::Secs plain_secs() {
  sgx::Secs s{};
  s.size = kSize;
  s.baseaddr = kBase;
  s.ssaframesize = 1;
  s.attributes = {sgx::attribute::kMode64Bit | sgx::attribute::kDebug, sgx::xfrm::kLegacy | sgx::xfrm::kAvx};
  return s;
}

sgx::Secinfo secinfo(sgx::PageType type, std::uint64_t flags) {
  sgx::Secinfo s{};
  s.flags = sgx::secinfo::type(type) | flags;
  return s;
}

Enclave::Enclave(Machine& machine, const sgx::Secs& source) : m(machine) {
  secs = allocate();
  require(encls::ecreate(m, secs, source, secinfo(sgx::PageType::kSecs)).ok(), "ECREATE");
}

EpcIndex Enclave::allocate() {
  const auto page = m.allocate_run(1, Owner::self());
  require(page.has_value(), "EPC is full");
  return *page;
}

EpcIndex Enclave::add(std::uint64_t offset, const Page& page, const sgx::Secinfo& info, bool measured) {
  const EpcIndex i = allocate();
  require(encls::eadd(m, i, secs, kBase + offset, page.data(), info).ok(), "EADD");
  if (measured) require(encls::eextend_page(m, i, secs).ok(), "EEXTEND");
  table.map(kBase + offset, i);
  return i;
}

EpcIndex Enclave::augment(std::uint64_t offset) {
  const EpcIndex i = allocate();
  require(encls::eaug(m, i, secs, kBase + offset).ok(), "EAUG");
  table.map(kBase + offset, i);
  return i;
}

void Enclave::add_layout() {
  using namespace sgx::secinfo;
  Page code, data{};
  code.fill(std::byte{0x90});
  add(kCode, code, secinfo(sgx::PageType::kReg, kR | kX));
  add(kData, data, secinfo(sgx::PageType::kReg, kR | kW));
  for (const auto& [tcs_at, ssa_at] : {std::pair{kTcs, kSsa}, std::pair{kTcs2, kSsa2}}) {
    sgx::Tcs tcs{};
    tcs.ossa = ssa_at;
    tcs.nssa = 2;
    tcs.oentry = kCode + 0x10;
    tcs.ofsbase = kData;
    tcs.ogsbase = kData;
    Page page;
    std::memcpy(page.data(), &tcs, sizeof(tcs));
    add(tcs_at, page, secinfo(sgx::PageType::kTcs));
    add(ssa_at, {}, secinfo(sgx::PageType::kReg, kR | kW));
    add(ssa_at + 0x1000, {}, secinfo(sgx::PageType::kReg, kR | kW));
  }
}

Leaf Enclave::init(const std::function<void(sgx::Sigstruct&)>& edit, EVP_PKEY* key) {
  sgx::Sigstruct s = unsigned_sigstruct(m.secs(secs), measurement::digest(m.secs_state(secs)));
  if (edit) edit(s);
  sign(s, key);
  return encls::einit(m, secs, s);
}

Thread::Thread() {
  regs.rsp = 0x7fff0000;
  regs.rbp = 0x7fff0100;
  regs.rip = 0x400100;
  regs.rflags = 0x202;
  regs.fsbase = 0x10000;
  regs.gsbase = 0x20000;
  regs.xcr0 = sgx::xfrm::kLegacy | sgx::xfrm::kAvx | sgx::xfrm::kAvx512;
}

Leaf Thread::execute(Enclave& e, sgx::Enclu leaf) {
  regs.rax = static_cast<std::uint64_t>(leaf);
  return enclu::execute(e.m, e.table, lp, regs, xsave);
}

Leaf Thread::enter(Enclave& e, std::uint64_t tcs) {
  regs.rbx = kBase + tcs;
  regs.rcx = kAep;
  return execute(e, sgx::Enclu::kEenter);
}

Leaf Thread::resume(Enclave& e, std::uint64_t tcs) {
  regs.rbx = kBase + tcs;
  regs.rcx = kAep;
  return execute(e, sgx::Enclu::kEresume);
}

Leaf Thread::exit(Enclave& e) {
  regs.rbx = 0x400200;
  return execute(e, sgx::Enclu::kEexit);
}

void Thread::interrupt(Enclave& e, const enclu::AexEvent& event) {
  enclu::aex(e.m, lp, regs, xsave, event);
}

void MachineTest::SetUp() {
  std::string name = "/dev/shm/softsgx-isa-XXXXXX";
  ASSERT_NE(mkdtemp(name.data()), nullptr);
  directory_ = name;
  machine_ = create("machine");
  ASSERT_NE(machine_, nullptr);
}

void MachineTest::TearDown() {
  machine_.reset();
  std::filesystem::remove_all(directory_);
}

std::unique_ptr<Machine> MachineTest::create(const std::string& name, CreateOptions options) {
  if (options.epc_bytes == 0) options.epc_bytes = 256 * sgx::kPageSize;
  if (!options.xfrm_allowed) {
    options.xfrm_allowed = sgx::xfrm::kLegacy | sgx::xfrm::kAvx | sgx::xfrm::kAvx512 | sgx::xfrm::kPkru;
  }
  std::string error;
  auto m = Machine::create(file(name), options, error);
  EXPECT_NE(m, nullptr) << error;
  return m;
}

}  // namespace softsgx::test
