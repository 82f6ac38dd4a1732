// The SGX architecture as data: structures, constants and leaf numbers of Intel's SDM, volume 3D.
//
// No behaviour lives here. Every structure that hardware, the Linux driver or a signer reads is laid out
// byte for byte and asserted below. Freestanding: usable inside `trusted/core`.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sgx {

inline constexpr std::size_t kPageSize = 4096;
inline constexpr std::size_t kPageShift = 12;
inline constexpr std::size_t kExtendChunk = 256;  // bytes measured by one EEXTEND

// ENCLS leaves (SDM 3D, table 37-1).
enum class Encls : std::uint32_t {
  kEcreate = 0x00,
  kEadd = 0x01,
  kEinit = 0x02,
  kEremove = 0x03,
  kEdbgrd = 0x04,
  kEdbgwr = 0x05,
  kEextend = 0x06,
  kEldb = 0x07,
  kEldu = 0x08,
  kEblock = 0x09,
  kEpa = 0x0a,
  kEwb = 0x0b,
  kEtrack = 0x0c,
  kEaug = 0x0d,
  kEmodpr = 0x0e,
  kEmodt = 0x0f,
};

// ENCLU leaves (SDM 3D, table 37-2).
enum class Enclu : std::uint32_t {
  kEreport = 0x00,
  kEgetkey = 0x01,
  kEenter = 0x02,
  kEresume = 0x03,
  kEexit = 0x04,
  kEaccept = 0x05,
  kEmodpe = 0x06,
  kEacceptcopy = 0x07,
};

// Error codes that leaves return in RAX (SDM 3D, table 37-4).
enum class Error : std::uint32_t {
  kSuccess = 0,
  kInvalidSigStruct = 1,
  kInvalidAttribute = 2,
  kBlkstate = 3,
  kInvalidMeasurement = 4,
  kNotblockable = 5,
  kPgInvld = 6,
  kLockfail = 7,
  kInvalidSignature = 8,
  kMacCompareFail = 9,
  kPageNotBlocked = 10,
  kNotTracked = 11,
  kVaSlotOccupied = 12,
  kChildPresent = 13,
  kEnclaveAct = 14,
  kEntryepochLocked = 15,
  kInvalidEinitToken = 16,
  kPrevTrkIncmpl = 17,
  kPgIsSecs = 18,
  kPageAttributesMismatch = 19,
  kPageNotModifiable = 20,
  kPageNotDebuggable = 21,
  kInvalidCpusvn = 32,
  kInvalidIsvsvn = 64,
  kUnmaskedEvent = 128,
  kInvalidKeyname = 256,
};

// SECS.ATTRIBUTES bits (SDM 3D, section 34.7.1).
namespace attribute {
inline constexpr std::uint64_t kInit = 1u << 0;
inline constexpr std::uint64_t kDebug = 1u << 1;
inline constexpr std::uint64_t kMode64Bit = 1u << 2;
inline constexpr std::uint64_t kProvisionKey = 1u << 4;
inline constexpr std::uint64_t kEinitTokenKey = 1u << 5;
inline constexpr std::uint64_t kCet = 1u << 6;
inline constexpr std::uint64_t kKss = 1u << 7;
inline constexpr std::uint64_t kAexNotify = 1u << 10;
}  // namespace attribute

// XFRM / XCR0 bits.
namespace xfrm {
inline constexpr std::uint64_t kX87 = 1u << 0;
inline constexpr std::uint64_t kSse = 1u << 1;
inline constexpr std::uint64_t kLegacy = kX87 | kSse;  // both must always be set
inline constexpr std::uint64_t kAvx = 1u << 2;
inline constexpr std::uint64_t kOpmask = 1u << 5;
inline constexpr std::uint64_t kZmmHi256 = 1u << 6;
inline constexpr std::uint64_t kHi16Zmm = 1u << 7;
inline constexpr std::uint64_t kAvx512 = kOpmask | kZmmHi256 | kHi16Zmm;
inline constexpr std::uint64_t kPkru = 1u << 9;
}  // namespace xfrm

// SECS.MISCSELECT bits.
namespace miscselect {
inline constexpr std::uint32_t kExinfo = 1u << 0;
}

// EPCM page types (SDM 3D, section 34.16).
enum class PageType : std::uint8_t { kSecs = 0, kTcs = 1, kReg = 2, kVa = 3, kTrim = 4, kSsFirst = 5, kSsRest = 6 };

// SECINFO.FLAGS bits (SDM 3D, section 34.11.1).
namespace secinfo {
inline constexpr std::uint64_t kR = 1u << 0;
inline constexpr std::uint64_t kW = 1u << 1;
inline constexpr std::uint64_t kX = 1u << 2;
inline constexpr std::uint64_t kPending = 1u << 3;
inline constexpr std::uint64_t kModified = 1u << 4;
inline constexpr std::uint64_t kPr = 1u << 5;
inline constexpr std::uint64_t kPermMask = kR | kW | kX;
inline constexpr unsigned kTypeShift = 8;
inline constexpr std::uint64_t kTypeMask = 0xffu << kTypeShift;
[[nodiscard]] constexpr std::uint64_t type(PageType t) noexcept {
  return static_cast<std::uint64_t>(t) << kTypeShift;
}
inline constexpr std::uint64_t kReservedMask = ~(kPermMask | kPending | kModified | kPr | kTypeMask);
}  // namespace secinfo

struct Attributes {
  std::uint64_t flags;
  std::uint64_t xfrm;
  friend bool operator==(const Attributes&, const Attributes&) = default;
};
static_assert(sizeof(Attributes) == 16);

struct Measurement {
  std::uint8_t bytes[32];
  friend bool operator==(const Measurement&, const Measurement&) = default;
};
static_assert(sizeof(Measurement) == 32);

struct alignas(kPageSize) Secs {  // SDM 3D, section 34.7
  std::uint64_t size;
  std::uint64_t baseaddr;
  std::uint32_t ssaframesize;  // pages
  std::uint32_t miscselect;
  std::uint8_t reserved1[24];
  Attributes attributes;
  Measurement mrenclave;
  std::uint8_t reserved2[32];
  Measurement mrsigner;
  std::uint8_t reserved3[32];
  std::uint64_t configid[8];
  std::uint16_t isvprodid;
  std::uint16_t isvsvn;
  std::uint16_t configsvn;
  std::uint8_t reserved4[3834];
};
static_assert(sizeof(Secs) == kPageSize);
static_assert(offsetof(Secs, attributes) == 48 && offsetof(Secs, mrenclave) == 64);
static_assert(offsetof(Secs, mrsigner) == 128 && offsetof(Secs, configid) == 192);
static_assert(offsetof(Secs, isvprodid) == 256 && offsetof(Secs, configsvn) == 260);

struct alignas(kPageSize) Tcs {  // SDM 3D, section 34.8; offsets are relative to SECS.BASEADDR
  std::uint64_t state;           // reserved to software
  std::uint64_t flags;           // bit 0: DBGOPTIN
  std::uint64_t ossa;
  std::uint32_t cssa;
  std::uint32_t nssa;
  std::uint64_t oentry;
  std::uint64_t aep;  // reserved to software
  std::uint64_t ofsbase;
  std::uint64_t ogsbase;
  std::uint32_t fslimit;
  std::uint32_t gslimit;
  std::uint8_t reserved[4024];
};
static_assert(sizeof(Tcs) == kPageSize);
static_assert(offsetof(Tcs, oentry) == 32 && offsetof(Tcs, ofsbase) == 48 && offsetof(Tcs, gslimit) == 68);
inline constexpr std::uint64_t kTcsDbgoptin = 1;

struct GprSgx {  // SDM 3D, section 34.9.2; the last 184 bytes of an SSA frame
  std::uint64_t rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi;
  std::uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
  std::uint64_t rflags, rip;
  std::uint64_t ursp, urbp;
  std::uint32_t exitinfo;
  std::uint32_t aexnotify;  // byte 0: AEXNOTIFY, the rest reserved
  std::uint64_t fsbase, gsbase;
};
static_assert(sizeof(GprSgx) == 184);
static_assert(offsetof(GprSgx, rflags) == 128 && offsetof(GprSgx, exitinfo) == 160 && offsetof(GprSgx, gsbase) == 176);

struct Exinfo {  // MISC region entry 0 of an SSA frame, just below GPRSGX
  std::uint64_t maddr;
  std::uint32_t errcd;
  std::uint32_t reserved;
};
static_assert(sizeof(Exinfo) == 16);

// EXITINFO (SDM 3D, section 34.9.2.1).
namespace exitinfo {
inline constexpr std::uint32_t kVectorMask = 0xff;
inline constexpr unsigned kTypeShift = 8;
inline constexpr std::uint32_t kTypeHardware = 3u << kTypeShift;
inline constexpr std::uint32_t kTypeSoftware = 6u << kTypeShift;
inline constexpr std::uint32_t kTypeMask = 7u << kTypeShift;
inline constexpr std::uint32_t kValid = 1u << 31;
}  // namespace exitinfo

// Exception vectors that EXITINFO can carry.
namespace vector {
inline constexpr std::uint8_t kDe = 0, kDb = 1, kBp = 3, kBr = 5, kUd = 6, kGp = 13, kPf = 14, kMf = 16, kAc = 17,
                              kXm = 19;
}

struct alignas(64) Secinfo {  // SDM 3D, section 34.11
  std::uint64_t flags;
  std::uint64_t reserved[7];
};
static_assert(sizeof(Secinfo) == 64);

struct alignas(32) Pageinfo {  // SDM 3D, section 34.10
  std::uint64_t linaddr;
  std::uint64_t srcpge;
  std::uint64_t secinfo;
  std::uint64_t secs;
};
static_assert(sizeof(Pageinfo) == 32);

inline constexpr std::size_t kRsaBytes = 384;  // RSA-3072

struct Sigstruct {  // SDM 3D, section 34.13
  std::uint8_t header[16];
  std::uint32_t vendor;
  std::uint32_t date;  // BCD, yyyymmdd
  std::uint8_t header2[16];
  std::uint32_t swdefined;
  std::uint8_t reserved1[84];
  std::uint8_t modulus[kRsaBytes];  // little-endian
  std::uint32_t exponent;           // 3
  std::uint8_t signature[kRsaBytes];
  std::uint32_t miscselect;
  std::uint32_t miscmask;
  std::uint8_t reserved2[4];
  std::uint8_t isvfamilyid[16];
  Attributes attributes;
  Attributes attributemask;
  Measurement enclavehash;
  std::uint8_t reserved3[16];
  std::uint8_t isvextprodid[16];
  std::uint16_t isvprodid;
  std::uint16_t isvsvn;
  std::uint8_t reserved4[12];
  std::uint8_t q1[kRsaBytes];
  std::uint8_t q2[kRsaBytes];
};
static_assert(sizeof(Sigstruct) == 1808);
static_assert(offsetof(Sigstruct, modulus) == 128 && offsetof(Sigstruct, exponent) == 512);
static_assert(offsetof(Sigstruct, miscselect) == 900 && offsetof(Sigstruct, attributes) == 928);
static_assert(offsetof(Sigstruct, enclavehash) == 960 && offsetof(Sigstruct, isvprodid) == 1024);
static_assert(offsetof(Sigstruct, q1) == 1040);
inline constexpr std::uint8_t kSigstructHeader[16] = {6, 0, 0, 0, 0xe1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0};
inline constexpr std::uint8_t kSigstructHeader2[16] = {1, 1, 0, 0, 0x60, 0, 0, 0, 0x60, 0, 0, 0, 1, 0, 0, 0};
// The RSA signature covers SIGSTRUCT bytes [0, 128) and [900, 1028).
inline constexpr std::size_t kSigstructSignedHead = 128;
inline constexpr std::size_t kSigstructBody = 900;
inline constexpr std::size_t kSigstructBodySize = 128;

struct alignas(512) Targetinfo {  // SDM 3D, section 34.14
  Measurement measurement;
  Attributes attributes;
  std::uint8_t reserved1[2];
  std::uint16_t configsvn;
  std::uint32_t miscselect;
  std::uint8_t reserved2[8];
  std::uint64_t configid[8];
  std::uint8_t reserved3[384];
};
static_assert(sizeof(Targetinfo) == 512 && offsetof(Targetinfo, configid) == 64);

struct ReportBody {  // the first 384 bytes of REPORT; what EREPORT's MAC and a quote cover
  std::uint8_t cpusvn[16];
  std::uint32_t miscselect;
  std::uint8_t reserved1[12];
  std::uint8_t isvextprodid[16];
  Attributes attributes;
  Measurement mrenclave;
  std::uint8_t reserved2[32];
  Measurement mrsigner;
  std::uint8_t reserved3[32];
  std::uint64_t configid[8];
  std::uint16_t isvprodid;
  std::uint16_t isvsvn;
  std::uint16_t configsvn;
  std::uint8_t reserved4[42];
  std::uint8_t isvfamilyid[16];
  std::uint8_t reportdata[64];
};
static_assert(sizeof(ReportBody) == 384 && offsetof(ReportBody, attributes) == 48);
static_assert(offsetof(ReportBody, configid) == 192 && offsetof(ReportBody, isvfamilyid) == 304);
static_assert(offsetof(ReportBody, reportdata) == 320);

struct Report {  // SDM 3D, section 34.15
  ReportBody body;
  std::uint8_t keyid[32];
  std::uint8_t mac[16];
};
static_assert(sizeof(Report) == 432);

// KEYREQUEST.KEYNAME (SDM 3D, section 34.17.1).
enum class KeyName : std::uint16_t { kEinitToken = 0, kProvision = 1, kProvisionSeal = 2, kReport = 3, kSeal = 4 };

namespace keypolicy {
inline constexpr std::uint16_t kMrenclave = 1u << 0;
inline constexpr std::uint16_t kMrsigner = 1u << 1;
inline constexpr std::uint16_t kNoIsvprodid = 1u << 2;
inline constexpr std::uint16_t kConfigid = 1u << 3;
inline constexpr std::uint16_t kIsvfamilyid = 1u << 4;
inline constexpr std::uint16_t kIsvextprodid = 1u << 5;
}  // namespace keypolicy

struct alignas(512) Keyrequest {  // SDM 3D, section 34.17
  KeyName keyname;
  std::uint16_t keypolicy;
  std::uint16_t isvsvn;
  std::uint8_t reserved1[2];
  std::uint8_t cpusvn[16];
  Attributes attributemask;
  std::uint8_t keyid[32];
  std::uint32_t miscmask;
  std::uint16_t configsvn;
  std::uint8_t reserved2[434];
};
static_assert(sizeof(Keyrequest) == 512 && offsetof(Keyrequest, keyid) == 40 && offsetof(Keyrequest, configsvn) == 76);

// Intel's XSAVE layout (non-compacted). Fixed here because an SSA frame written on one vendor's CPU must be readable
// on another's: software machines translate to and from this layout.
namespace xsave {
inline constexpr std::size_t kLegacySize = 512;
inline constexpr std::size_t kHeaderOffset = 512;
inline constexpr std::size_t kHeaderSize = 64;
inline constexpr std::size_t kMxcsrOffset = 24;
inline constexpr std::size_t kAvxOffset = 576, kAvxSize = 256;
inline constexpr std::size_t kOpmaskOffset = 1088, kOpmaskSize = 64;
inline constexpr std::size_t kZmmHi256Offset = 1152, kZmmHi256Size = 512;
inline constexpr std::size_t kHi16ZmmOffset = 1664, kHi16ZmmSize = 1024;
inline constexpr std::size_t kPkruOffset = 2688, kPkruSize = 8;
inline constexpr std::uint32_t kMxcsrDefault = 0x1f80;
}  // namespace xsave

}  // namespace sgx
