#include "host/sign.h"

#include <Zydis/Zydis.h>
#include <fcntl.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <ctime>
#include <memory>
#include <set>

#include "migration/abi.h"
#include "sgx/measure.h"

namespace sealift::host {
namespace {

template <auto F>
struct Free {
  template <typename T>
  void operator()(T* p) const {
    F(p);
  }
};
using Pkey = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using PkeyCtx = std::unique_ptr<EVP_PKEY_CTX, Free<EVP_PKEY_CTX_free>>;
using MdCtx = std::unique_ptr<EVP_MD_CTX, Free<EVP_MD_CTX_free>>;
using Bn = std::unique_ptr<BIGNUM, Free<BN_clear_free>>;
using BnCtx = std::unique_ptr<BN_CTX, Free<BN_CTX_free>>;
using File = std::unique_ptr<FILE, Free<fclose>>;

[[noreturn]] void fail(const std::string& what) {
  throw Error(Errc::kPolicy, what);
}

class Digest {
 public:
  Digest() : context_(EVP_MD_CTX_new()) {
    if (!context_ || EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1) fail("SHA-256 is not available");
  }
  void add(const void* data, std::size_t n) { EVP_DigestUpdate(context_.get(), data, n); }
  sgx::Measurement finish() {
    sgx::Measurement m{};
    EVP_DigestFinal_ex(context_.get(), m.bytes, nullptr);
    return m;
  }

 private:
  MdCtx context_;
};

void measure_run(Digest& digest, const PageRun& run) {
  static constexpr std::array<std::uint8_t, sgx::kPageSize> kZeroPage{};
  for (std::uint64_t i = 0; i < run.count; ++i) {
    const std::uint64_t offset = run.offset + i * sgx::kPageSize;
    sgx::measure::EaddRecord eadd;
    eadd.offset = offset;
    std::memcpy(eadd.secinfo, &run.secinfo_flags, sizeof run.secinfo_flags);
    digest.add(&eadd, sizeof eadd);
    if (!run.measure) continue;
    const std::uint8_t* page = run.data.empty() ? kZeroPage.data() : run.data.data() + i * sgx::kPageSize;
    for (std::size_t chunk = 0; chunk < sgx::kPageSize; chunk += sgx::kExtendChunk) {
      sgx::measure::EextendRecord eextend;
      eextend.offset = offset + chunk;
      digest.add(&eextend, sizeof eextend);
      digest.add(page + chunk, sgx::kExtendChunk);
    }
  }
}

void lay_out(Image& image, const EnclaveConfig& wanted) {
  EnclaveConfig c = wanted;
  c.image_size = image.image_size();
  c.heap_offset = c.image_size + sgx::kPageSize;  // a guard page that is never added
  c.threads_offset = c.heap_offset + c.heap_size + sgx::kPageSize;
  c.thread_stride = thread_stride(c.stack_size, c.ssa_frame_pages);
  c.elrange_size = std::bit_ceil(thread_base(c, c.tcs_count) + sgx::kPageSize);
  c.entry_offset = image.symbol("sealift_entry");
  c.thread_block_offset = image.symbol("sealift_thread_blocks");
  c.thread_block_stride = 16384;
  c.cpuid_site_count = 0;
  image.config() = c;
}

// Every `cpuid` in the image's code, found by decoding function by function (symbols are still there when we sign).
std::vector<std::uint64_t> cpuid_sites(Image& image) {
  ZydisDecoder decoder;
  ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  std::set<std::uint64_t> sites;
  const auto functions = image.functions();
  for (const Image::Section& s : image.executable_sections()) {
    for (const Image::Function& f : functions) {
      if (f.vaddr < s.vaddr || f.vaddr >= s.vaddr + s.size) continue;
      std::uint64_t at = f.vaddr;
      const std::uint64_t end = std::min(f.vaddr + f.size, s.vaddr + s.size);
      while (at < end) {
        const std::uint8_t* code = s.bytes.data() + (at - s.vaddr);
        ZydisDecodedInstruction instruction;
        if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, nullptr, code, end - at, &instruction))) {
          ++at;  // data between functions' code, e.g. tables of hand-written assembly
          continue;
        }
        if (instruction.mnemonic == ZYDIS_MNEMONIC_CPUID) sites.insert(at);
        at += instruction.length;
      }
    }
  }
  return {sites.begin(), sites.end()};
}

void replace_cpuid(Image& image) {
  const auto sites = cpuid_sites(image);
  if (sites.size() > kMaxCpuidSites) {
    fail(image.name() + ": " + std::to_string(sites.size()) + " cpuid instructions, at most " +
         std::to_string(kMaxCpuidSites) + " are supported");
  }
  EnclaveConfig& c = image.config();
  for (const std::uint64_t site : sites) {
    for (const Image::Section& s : image.executable_sections()) {
      if (site < s.vaddr || site + 2 > s.vaddr + s.size) continue;
      s.bytes[site - s.vaddr] = 0x0f;
      s.bytes[site - s.vaddr + 1] = 0x0b;
    }
    c.cpuid_sites[c.cpuid_site_count++] = static_cast<std::uint32_t>(site);
  }
}

Pkey load_key(const std::string& path) {
  const File file(fopen(path.c_str(), "r"));
  if (!file) fail(path + ": cannot read the signing key: make one with `sealift sign --new-key`");
  Pkey key(PEM_read_PrivateKey(file.get(), nullptr, nullptr, nullptr));
  if (!key || EVP_PKEY_get_base_id(key.get()) != EVP_PKEY_RSA || EVP_PKEY_get_bits(key.get()) != 3072) {
    fail(path + ": not an RSA key of 3072 bits in PEM form");
  }
  return key;
}

Bn parameter(EVP_PKEY* key, const char* name) {
  BIGNUM* n = nullptr;
  if (EVP_PKEY_get_bn_param(key, name, &n) != 1) fail("the signing key lacks a parameter");
  return Bn(n);
}

void to_little_endian(const BIGNUM* n, std::uint8_t (&out)[sgx::kRsaBytes]) {
  if (BN_bn2lebinpad(n, out, sizeof out) != static_cast<int>(sizeof out)) fail("RSA arithmetic failed");
}

std::uint32_t bcd_date() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  const std::uint32_t v =
      static_cast<std::uint32_t>((utc.tm_year + 1900) * 10000 + (utc.tm_mon + 1) * 100 + utc.tm_mday);
  std::uint32_t bcd = 0;
  for (std::uint32_t i = 0, rest = v; i < 8; ++i, rest /= 10) bcd |= (rest % 10) << (4 * i);
  return bcd;
}

void fill_sigstruct(sgx::Sigstruct& s, const Manifest& m, const sgx::Measurement& mrenclave) {
  s = {};
  std::memcpy(s.header, sgx::kSigstructHeader, sizeof s.header);
  std::memcpy(s.header2, sgx::kSigstructHeader2, sizeof s.header2);
  s.date = bcd_date();
  s.exponent = 3;
  s.miscselect = m.miscselect;
  s.miscmask = 0xffffffff;
  s.attributes = m.attributes;
  s.attributemask = m.attribute_mask;
  s.enclavehash = mrenclave;
  s.isvprodid = m.isvprodid;
  s.isvsvn = m.isvsvn;
}

// q1 = floor(sig^2 / n), q2 = floor((sig^3 - q1 * sig * n) / n): the helper values EINIT checks the signature with.
void helper_values(const BIGNUM* sig, const BIGNUM* n, sgx::Sigstruct& s) {
  const BnCtx ctx(BN_CTX_new());
  const Bn square(BN_new()), q1(BN_new()), rest(BN_new()), cube(BN_new()), q2(BN_new()), unused(BN_new());
  const bool ok = BN_sqr(square.get(), sig, ctx.get()) == 1 &&
                  BN_div(q1.get(), rest.get(), square.get(), n, ctx.get()) == 1 &&
                  BN_mul(cube.get(), rest.get(), sig, ctx.get()) == 1 &&
                  BN_div(q2.get(), unused.get(), cube.get(), n, ctx.get()) == 1;
  if (!ok) fail("RSA arithmetic failed");
  to_little_endian(q1.get(), s.q1);
  to_little_endian(q2.get(), s.q2);
}

void sign_sigstruct(sgx::Sigstruct& s, EVP_PKEY* key) {
  const auto* raw = reinterpret_cast<const std::uint8_t*>(&s);
  std::array<std::uint8_t, sgx::kSigstructSignedHead + sgx::kSigstructBodySize> body{};
  std::copy_n(raw, sgx::kSigstructSignedHead, body.begin());
  std::copy_n(raw + sgx::kSigstructBody, sgx::kSigstructBodySize, body.begin() + sgx::kSigstructSignedHead);
  const MdCtx context(EVP_MD_CTX_new());
  std::array<std::uint8_t, sgx::kRsaBytes> signature{};
  std::size_t n = signature.size();
  if (EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key) != 1 ||
      EVP_DigestSign(context.get(), signature.data(), &n, body.data(), body.size()) != 1 || n != signature.size()) {
    fail("signing failed");
  }
  const Bn sig(BN_bin2bn(signature.data(), static_cast<int>(n), nullptr));
  const Bn modulus = parameter(key, OSSL_PKEY_PARAM_RSA_N);
  to_little_endian(sig.get(), s.signature);
  to_little_endian(modulus.get(), s.modulus);
  helper_values(sig.get(), modulus.get(), s);
}

}  // namespace

sgx::Measurement measure(const Image& image) {
  Digest digest;
  sgx::measure::EcreateRecord ecreate;
  ecreate.ssaframesize = image.config().ssa_frame_pages;
  ecreate.size = image.config().elrange_size;
  digest.add(&ecreate, sizeof ecreate);
  image.for_each_run([&](const PageRun& run) { measure_run(digest, run); });
  return digest.finish();
}

sgx::Measurement mrsigner_of(const sgx::Sigstruct& s) {
  Digest digest;
  digest.add(s.modulus, sizeof s.modulus);
  return digest.finish();
}

sgx::Measurement mrsigner_of_key(const std::string& key_path) {
  const Pkey key = load_key(key_path);
  sgx::Sigstruct s{};
  to_little_endian(parameter(key.get(), OSSL_PKEY_PARAM_RSA_N).get(), s.modulus);
  return mrsigner_of(s);
}

void sign(Image& image, const Manifest& manifest, const std::string& key_path) {
  const Pkey key = load_key(key_path);
  const Bn exponent = parameter(key.get(), OSSL_PKEY_PARAM_RSA_E);
  if (BN_is_word(exponent.get(), 3) != 1) fail(key_path + ": the key's exponent must be 3, as SIGSTRUCT requires");
  lay_out(image, manifest.config);
  replace_cpuid(image);
  image.check_config();
  fill_sigstruct(image.sigstruct(), manifest, measure(image));
  sign_sigstruct(image.sigstruct(), key.get());
}

void generate_key(const std::string& path) {
  const PkeyCtx context(EVP_PKEY_CTX_new_id(EVP_PKEY_RSA, nullptr));
  const Bn three(BN_new());
  EVP_PKEY* raw = nullptr;
  if (!context || BN_set_word(three.get(), 3) != 1 || EVP_PKEY_keygen_init(context.get()) != 1 ||
      EVP_PKEY_CTX_set_rsa_keygen_bits(context.get(), 3072) != 1 ||
      EVP_PKEY_CTX_set1_rsa_keygen_pubexp(context.get(), three.get()) != 1 ||
      EVP_PKEY_keygen(context.get(), &raw) != 1) {
    fail("RSA key generation failed");
  }
  const Pkey key(raw);
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600);
  if (fd < 0) fail(path + ": cannot create the key file (does it exist already?)");
  const File file(fdopen(fd, "w"));
  if (!file || PEM_write_PrivateKey(file.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    fail(path + ": cannot write the key");
  }
}

}  // namespace sealift::host
