// Typed calls across an enclave's boundary, declared once in a header that both sides include:
//
//   inline constexpr sealift::Ecall<1, std::string(std::string, std::uint32_t)> kGreet{};
//   inline constexpr sealift::Ocall<1, void(std::string)> kLog{};
//
// Values are copied, never referenced: integers, enums, bool, floating point, std::string, std::vector, std::optional,
// std::pair, std::tuple, std::array, and structs that offer `auto tie()` / `auto tie() const` returning std::tie of
// their members. Pointers, references and anything else do not compile. Decoding is exact: short, surplus or
// out-of-range bytes are refused.
//
// Wire form (little-endian): numbers as they are; bool one byte, 0 or 1; sequences as u32 count and elements;
// optional as one byte and the value; tuples and structs member by member.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace sealift {

template <std::uint32_t Id, typename Signature>
struct Ecall;
template <std::uint32_t Id, typename Signature>
struct Ocall;

// `restartable` ocalls are issued again on the target when the enclave migrates while one is in flight (they must be
// idempotent); all others answer Errc::kMigrated inside.
enum class Restart : bool { kNo = false, kYes = true };

template <std::uint32_t Id, typename R, typename... Args>
struct Ecall<Id, R(Args...)> {
  static constexpr std::uint32_t kId = Id;
  using Return = R;
  using Arguments = std::tuple<std::decay_t<Args>...>;
};

template <std::uint32_t Id, typename R, typename... Args>
struct Ocall<Id, R(Args...)> {
  static constexpr std::uint32_t kId = Id;
  using Return = R;
  using Arguments = std::tuple<std::decay_t<Args>...>;
  Restart restart = Restart::kNo;
};

// Stands for `void` where a value is needed.
struct Nothing {
  static auto tie() { return std::tie(); }
};
template <typename R>
using ValueOf = std::conditional_t<std::is_void_v<R>, Nothing, R>;

using Bytes = std::vector<std::uint8_t>;

namespace wire {

template <typename T>
inline constexpr bool kScalar = (std::is_arithmetic_v<T> || std::is_enum_v<T>)&&!std::is_same_v<T, bool>;

template <typename T>
struct Codec;  // no definition: this type does not cross the boundary

class Writer {
 public:
  explicit Writer(Bytes& to) : to_(to) {}
  void raw(const void* data, std::size_t n) {
    if (n == 0) return;
    const auto* p = static_cast<const std::uint8_t*>(data);
    to_.insert(to_.end(), p, p + n);
  }
  template <typename T>
  void put(const T& value) {
    Codec<T>::put(*this, value);
  }

 private:
  Bytes& to_;
};

// Reads from bytes that were copied out of untrusted memory. Sticky failure: after the first short or invalid read
// every further one fails.
class Reader {
 public:
  explicit Reader(std::span<const std::uint8_t> from) : from_(from) {}
  bool raw(void* to, std::size_t n) {
    if (failed_ || n > from_.size()) return fail();
    if (n != 0) std::memcpy(to, from_.data(), n);
    from_ = from_.subspan(n);
    return true;
  }
  template <typename T>
  bool get(T& value) {
    return !failed_ && Codec<T>::get(*this, value);
  }
  bool fail() {
    failed_ = true;
    return false;
  }
  [[nodiscard]] std::size_t left() const { return from_.size(); }
  // Everything was read, and nothing was wrong.
  [[nodiscard]] bool finished() const { return !failed_ && from_.empty(); }

 private:
  std::span<const std::uint8_t> from_;
  bool failed_ = false;
};

template <typename T>
requires kScalar<T>
struct Codec<T> {
  static void put(Writer& w, const T& v) { w.raw(&v, sizeof v); }
  static bool get(Reader& r, T& v) { return r.raw(&v, sizeof v); }
};

template <>
struct Codec<bool> {
  static void put(Writer& w, bool v) { w.put(static_cast<std::uint8_t>(v ? 1 : 0)); }
  static bool get(Reader& r, bool& v) {
    std::uint8_t b = 0;
    if (!r.get(b) || b > 1) return r.fail();
    v = b == 1;
    return true;
  }
};

// std::string and std::vector. Memory is taken only for elements whose bytes are there.
template <typename C>
requires requires(C c) {
  typename C::value_type;
  c.resize(std::size_t{});
}
struct Codec<C> {
  using T = typename C::value_type;
  static void put(Writer& w, const C& c) {
    w.put(static_cast<std::uint32_t>(c.size()));
    if constexpr (kScalar<T>) {
      w.raw(c.data(), c.size() * sizeof(T));
    } else {
      for (const T& element : c) w.put(element);
    }
  }
  static bool get(Reader& r, C& c) {
    std::uint32_t n = 0;
    if (!r.get(n)) return false;
    if constexpr (kScalar<T>) {
      if (n > r.left() / sizeof(T)) return r.fail();
      c.resize(n);
      return r.raw(c.data(), n * sizeof(T));
    } else {
      if (n > r.left()) return r.fail();
      c.clear();
      for (std::uint32_t i = 0; i < n; ++i) {
        T element{};
        if (!r.get(element)) return false;
        c.push_back(std::move(element));
      }
      return true;
    }
  }
};

template <typename T>
struct Codec<std::optional<T>> {
  static void put(Writer& w, const std::optional<T>& v) {
    w.put(v.has_value());
    if (v) w.put(*v);
  }
  static bool get(Reader& r, std::optional<T>& v) {
    bool there = false;
    if (!r.get(there)) return false;
    if (!there) {
      v.reset();
      return true;
    }
    return r.get(v.emplace());
  }
};

template <typename T, std::size_t N>
struct Codec<std::array<T, N>> {
  static void put(Writer& w, const std::array<T, N>& a) {
    for (const T& element : a) w.put(element);
  }
  static bool get(Reader& r, std::array<T, N>& a) {
    for (T& element : a) {
      if (!r.get(element)) return false;
    }
    return true;
  }
};

template <typename... T>
struct Codec<std::tuple<T...>> {
  static void put(Writer& w, const std::tuple<T...>& t) {
    std::apply([&](const auto&... v) { (w.put(v), ...); }, t);
  }
  static bool get(Reader& r, std::tuple<T...>& t) {
    return std::apply([&](auto&... v) { return (r.get(v) && ...); }, t);
  }
};

template <typename A, typename B>
struct Codec<std::pair<A, B>> {
  static void put(Writer& w, const std::pair<A, B>& p) {
    w.put(p.first);
    w.put(p.second);
  }
  static bool get(Reader& r, std::pair<A, B>& p) { return r.get(p.first) && r.get(p.second); }
};

template <typename T>
requires requires(T t) {
  t.tie();
}
struct Codec<T> {
  static void put(Writer& w, const T& v) {
    std::apply([&](const auto&... m) { (w.put(m), ...); }, v.tie());
  }
  static bool get(Reader& r, T& v) {
    return std::apply([&](auto&... m) { return (r.get(m) && ...); }, v.tie());
  }
};

template <typename T>
[[nodiscard]] Bytes encode(const T& value) {
  Bytes bytes;
  Writer(bytes).put(value);
  return bytes;
}

// False: not exactly one T.
template <typename T>
[[nodiscard]] bool decode(std::span<const std::uint8_t> bytes, T& value) {
  Reader r(bytes);
  return r.get(value) && r.finished();
}

}  // namespace wire
}  // namespace sealift
