#include "trusted/core/crypto.h"

#include <immintrin.h>
#include <intel-ipsec-mb.h>
#include <sodium/crypto_auth_hmacsha256.h>
#include <sodium/crypto_hash_sha256.h>
#include <sodium/crypto_scalarmult_curve25519.h>

#include "trusted/core/area.h"
#include "trusted/core/memory.h"

// Not in the library's header, but exported by it: the VAES/AVX-512 build of the same functions.
extern "C" {
void aes_gcm_precomp_256_vaes_avx512(gcm_key_data*);
void aes_gcm_init_256_vaes_avx512(const gcm_key_data*, gcm_context_data*, const std::uint8_t*, const std::uint8_t*,
                                  std::uint64_t);
void aes_gcm_enc_256_update_vaes_avx512(const gcm_key_data*, gcm_context_data*, std::uint8_t*, const std::uint8_t*,
                                        std::uint64_t);
void aes_gcm_enc_256_finalize_vaes_avx512(const gcm_key_data*, gcm_context_data*, std::uint8_t*, std::uint64_t);
void aes_gcm_dec_256_update_vaes_avx512(const gcm_key_data*, gcm_context_data*, std::uint8_t*, const std::uint8_t*,
                                        std::uint64_t);
void aes_gcm_dec_256_finalize_vaes_avx512(const gcm_key_data*, gcm_context_data*, std::uint8_t*, std::uint64_t);
}

namespace sealift::core {
namespace {

static_assert(sizeof(GcmKey) >= sizeof(gcm_key_data) && alignof(GcmKey) >= 64);
static_assert(sizeof(crypto_hash_sha256_state) == 104);

enum class Level : std::uint8_t { kSse, kAvx2, kVaesAvx512 };
SEALIFT_CORE_DATA Level level;

const gcm_key_data* data_of(const GcmKey& key) {
  return reinterpret_cast<const gcm_key_data*>(key.bytes);
}

struct Nonce {
  std::uint8_t bytes[12] = {};
  explicit Nonce(std::uint64_t sequence) noexcept { copy_own(bytes + 4, sequence); }
};

const CpuidEntry* baseline(std::uint32_t leaf) noexcept {
  const EnclaveConfig& c = config();
  for (std::uint32_t i = 0; i < c.cpuid_count && i < kMaxCpuid; ++i) {
    if (c.cpuid[i].leaf == leaf && c.cpuid[i].subleaf == 0) return &c.cpuid[i];
  }
  return nullptr;
}

}  // namespace

void crypto_init() noexcept {
  level = Level::kSse;
  const CpuidEntry* l7 = baseline(7);
  if (l7 == nullptr) return;
  constexpr std::uint32_t kAvx2 = 1u << 5, kF = 1u << 16, kDq = 1u << 17, kBw = 1u << 30, kVl = 1u << 31;
  constexpr std::uint32_t kVaes = 1u << 9, kVpclmul = 1u << 10;
  const std::uint64_t xfrm = config().xfrm;
  if ((xfrm & sgx::xfrm::kAvx) == 0 || (l7->ebx & kAvx2) == 0) return;
  level = Level::kAvx2;
  const std::uint32_t avx512 = kF | kDq | kBw | kVl;
  if ((xfrm & sgx::xfrm::kAvx512) == sgx::xfrm::kAvx512 && (l7->ebx & avx512) == avx512 &&
      (l7->ecx & (kVaes | kVpclmul)) == (kVaes | kVpclmul)) {
    level = Level::kVaesAvx512;
  }
}

void gcm_expand(GcmKey& key, const std::uint8_t (&raw)[kKeyBytes]) noexcept {
  auto* data = reinterpret_cast<gcm_key_data*>(key.bytes);
  struct alignas(16) {
    std::uint8_t bytes[15 * 16];
  } unused;  // the decryption schedule, which GCM has no use for
  ScopedWipe wipe_unused(unused);
  switch (level) {
    case Level::kSse:
      aes_keyexp_256_sse(raw, data->expanded_keys, unused.bytes);
      aes_gcm_precomp_256_sse(data);
      return;
    case Level::kAvx2:
      aes_keyexp_256_avx2(raw, data->expanded_keys, unused.bytes);
      aes_gcm_precomp_256_avx_gen4(data);
      return;
    case Level::kVaesAvx512:
      aes_keyexp_256_avx2(raw, data->expanded_keys, unused.bytes);
      aes_gcm_precomp_256_vaes_avx512(data);
      return;
  }
}

namespace {

// One function of the library, in the build for this enclave's CPU baseline.
template <typename Function>
Function at_level(Function vaes_avx512, Function avx2, Function sse) noexcept {
  return level == Level::kVaesAvx512 ? vaes_avx512 : level == Level::kAvx2 ? avx2 : sse;
}

static_assert(sizeof(gcm_context_data) <= 128);

gcm_context_data* context_of(std::uint8_t (&bytes)[128]) {
  return reinterpret_cast<gcm_context_data*>(bytes);
}

// Whole lines of 64 bytes, four at a time; how much that was.
[[gnu::target("avx512f")]] std::size_t copy_lines(std::uint8_t* to, const std::uint8_t* from,
                                                  std::size_t len) noexcept {
  constexpr std::size_t kFourLines = 4 * kCacheLine;
  std::size_t done = 0;
  for (; done + kFourLines <= len; done += kFourLines) {
    asm volatile(
        "vmovdqu64 (%1), %%zmm0\n\t"
        "vmovdqu64 64(%1), %%zmm1\n\t"
        "vmovdqu64 128(%1), %%zmm2\n\t"
        "vmovdqu64 192(%1), %%zmm3\n\t"
        "vmovdqu64 %%zmm0, (%0)\n\t"
        "vmovdqu64 %%zmm1, 64(%0)\n\t"
        "vmovdqu64 %%zmm2, 128(%0)\n\t"
        "vmovdqu64 %%zmm3, 192(%0)"
        :
        : "r"(to + done), "r"(from + done)
        : "memory", "xmm0", "xmm1", "xmm2", "xmm3");
  }
  return done;
}

}  // namespace

GcmPieces::GcmPieces(const GcmKey& key, std::uint64_t sequence, const void* aad, std::size_t aad_len) noexcept
    : key_(key) {
  const Nonce nonce(sequence);
  at_level(aes_gcm_init_256_vaes_avx512, aes_gcm_init_256_avx_gen4, aes_gcm_init_256_sse)(
      data_of(key_), context_of(context_), nonce.bytes, static_cast<const std::uint8_t*>(aad), aad_len);
}

GcmPieces::~GcmPieces() {
  wipe(context_, sizeof context_);
}

void GcmSeal::update(const void* in, std::size_t len, void* out) noexcept {
  at_level(aes_gcm_enc_256_update_vaes_avx512, aes_gcm_enc_256_update_avx_gen4, aes_gcm_enc_256_update_sse)(
      data_of(key_), context_of(context_), static_cast<std::uint8_t*>(out), static_cast<const std::uint8_t*>(in), len);
}

void GcmSeal::finish(std::uint8_t (&tag)[kTagBytes]) noexcept {
  at_level(aes_gcm_enc_256_finalize_vaes_avx512, aes_gcm_enc_256_finalize_avx_gen4, aes_gcm_enc_256_finalize_sse)(
      data_of(key_), context_of(context_), tag, kTagBytes);
}

void GcmOpen::update(const void* in, std::size_t len, void* out) noexcept {
  at_level(aes_gcm_dec_256_update_vaes_avx512, aes_gcm_dec_256_update_avx_gen4, aes_gcm_dec_256_update_sse)(
      data_of(key_), context_of(context_), static_cast<std::uint8_t*>(out), static_cast<const std::uint8_t*>(in), len);
}

bool GcmOpen::finish(const std::uint8_t (&tag)[kTagBytes]) noexcept {
  std::uint8_t computed[kTagBytes];
  at_level(aes_gcm_dec_256_finalize_vaes_avx512, aes_gcm_dec_256_finalize_avx_gen4, aes_gcm_dec_256_finalize_sse)(
      data_of(key_), context_of(context_), computed, kTagBytes);
  return equal_ct(computed, tag, kTagBytes);
}

void gcm_seal(const GcmKey& key, std::uint64_t sequence, const void* aad, std::size_t aad_len, const void* in,
              std::size_t len, void* out, std::uint8_t (&tag)[kTagBytes]) noexcept {
  GcmSeal seal(key, sequence, aad, aad_len);
  seal.update(in, len, out);
  seal.finish(tag);
}

bool gcm_open(const GcmKey& key, std::uint64_t sequence, const void* aad, std::size_t aad_len, const void* in,
              std::size_t len, void* out, const std::uint8_t (&tag)[kTagBytes]) noexcept {
  GcmOpen open(key, sequence, aad, aad_len);
  open.update(in, len, out);
  return open.finish(tag);
}

void copy_sealed(void* to, const void* from, std::size_t len) noexcept {
  auto* t = static_cast<std::uint8_t*>(to);
  const auto* f = static_cast<const std::uint8_t*>(from);
  const std::size_t done = level == Level::kVaesAvx512 ? copy_lines(t, f, len) : 0;
  copy(t + done, f + done, len - done);
}

namespace {

// One AES-128 block: CFB of a zero block is E(iv).
struct Aes128 {
  alignas(16) std::uint8_t schedule[11 * 16];
  alignas(16) std::uint8_t unused[11 * 16];
  explicit Aes128(const std::uint8_t (&key)[16]) noexcept { aes_keyexp_128_sse(key, schedule, unused); }
  ~Aes128() {
    wipe(schedule, sizeof schedule);
    wipe(unused, sizeof unused);
  }
  void encrypt(std::uint8_t (&block)[16]) const noexcept {
    alignas(16) const std::uint8_t zero[16] = {};
    alignas(16) std::uint8_t iv[16];
    copy(iv, block, 16);
    aes_cfb_128_one_sse(block, zero, iv, schedule, 16);
  }
};

// Doubling in GF(2^128), big-endian (SP 800-38B, subkey generation).
void double_block(std::uint8_t (&b)[16]) noexcept {
  const unsigned carry = b[0] >> 7;
  for (int i = 0; i < 15; ++i) b[i] = static_cast<std::uint8_t>((b[i] << 1) | (b[i + 1] >> 7));
  b[15] = static_cast<std::uint8_t>((b[15] << 1) ^ (0x87u & (0u - carry)));
}

}  // namespace

void cmac(const std::uint8_t (&key)[16], const void* data, std::size_t len, std::uint8_t (&mac)[16]) noexcept {
  const Aes128 aes(key);
  std::uint8_t subkey[16] = {};
  aes.encrypt(subkey);
  double_block(subkey);
  const auto* p = static_cast<const std::uint8_t*>(data);
  std::uint8_t state[16] = {};
  while (len > 16) {
    for (int i = 0; i < 16; ++i) state[i] ^= p[i];
    aes.encrypt(state);
    p += 16;
    len -= 16;
  }
  if (len < 16) double_block(subkey);
  for (std::size_t i = 0; i < len; ++i) state[i] ^= p[i];
  if (len < 16) state[len] ^= 0x80;
  for (int i = 0; i < 16; ++i) state[i] ^= subkey[i];
  aes.encrypt(state);
  copy(mac, state, 16);
  wipe(subkey, sizeof subkey);
}

Sha256::Sha256() noexcept {
  crypto_hash_sha256_init(reinterpret_cast<crypto_hash_sha256_state*>(state_));
}
void Sha256::add(const void* data, std::size_t len) noexcept {
  crypto_hash_sha256_update(reinterpret_cast<crypto_hash_sha256_state*>(state_), static_cast<const std::uint8_t*>(data),
                            len);
}
void Sha256::finish(std::uint8_t (&digest)[32]) noexcept {
  crypto_hash_sha256_final(reinterpret_cast<crypto_hash_sha256_state*>(state_), digest);
}

void hmac_sha256(const std::uint8_t (&key)[32], const void* data, std::size_t len, std::uint8_t (&mac)[32]) noexcept {
  crypto_auth_hmacsha256_state state;
  ScopedWipe wipe_state(state);
  crypto_auth_hmacsha256_init(&state, key, 32);
  crypto_auth_hmacsha256_update(&state, static_cast<const std::uint8_t*>(data), len);
  crypto_auth_hmacsha256_final(&state, mac);
}

void hkdf_extract(const std::uint8_t (&salt)[32], const std::uint8_t (&ikm)[32], std::uint8_t (&prk)[32]) noexcept {
  hmac_sha256(salt, ikm, 32, prk);
}

void hkdf_expand(const std::uint8_t (&prk)[32], const char* label, std::uint8_t (&okm)[32]) noexcept {
  std::uint8_t info[64];
  std::size_t n = 0;
  while (label[n] != '\0' && n + 1 < sizeof info) {
    info[n] = static_cast<std::uint8_t>(label[n]);
    ++n;
  }
  info[n++] = 1;  // block counter: T(1) is all that is needed
  hmac_sha256(prk, info, n, okm);
}

void x25519_public(const std::uint8_t (&secret)[32], std::uint8_t (&pub)[32]) noexcept {
  // Cannot fail for the base point.
  [[maybe_unused]] const int result = crypto_scalarmult_curve25519_base(pub, secret);
}

bool x25519(const std::uint8_t (&secret)[32], const std::uint8_t (&peer)[32], std::uint8_t (&shared)[32]) noexcept {
  return crypto_scalarmult_curve25519(shared, secret, peer) == 0;
}

[[gnu::target("rdrnd")]] bool random_bytes(void* to, std::size_t n) noexcept {
  auto* p = static_cast<std::uint8_t*>(to);
  while (n > 0) {
    unsigned long long value = 0;
    int tries = 0;
    while (_rdrand64_step(&value) == 0) {
      if (++tries == 1000) return false;
    }
    const std::size_t k = n < sizeof value ? n : sizeof value;
    copy(p, &value, k);
    p += k;
    n -= k;
  }
  return true;
}

}  // namespace sealift::core
