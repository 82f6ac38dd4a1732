#include "bench/enclaves/kernels.h"

#include <sodium/crypto_hash_sha256.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

namespace workload {
namespace {

// `size` is in units that take about the same time in every kernel.

std::uint64_t sort(std::uint32_t size) {
  std::mt19937_64 random(1);
  std::vector<std::uint64_t> v(std::size_t{size} * 4000);
  for (auto& x : v) x = random();
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

std::uint64_t hash_table(std::uint32_t size) {
  std::mt19937_64 random(2);
  std::unordered_map<std::uint64_t, std::uint64_t> table;
  const std::uint64_t keys = std::uint64_t{size} * 500;
  for (std::uint32_t i = 0; i < size * 4000; ++i) table[random() % keys] += i;
  std::uint64_t sum = 0;
  for (const auto& [k, v] : table) sum += k ^ v;
  return sum;
}

std::uint64_t matrix(std::uint32_t size) {
  constexpr std::size_t kN = 160;
  std::vector<double> a(kN * kN, 1.25), b(kN * kN, 0.75), c(kN * kN, 0.0);
  for (std::uint32_t round = 0; round < (size + 15) / 16; ++round) {
    for (std::size_t i = 0; i < kN; ++i) {
      for (std::size_t k = 0; k < kN; ++k) {
        const double x = a[i * kN + k];
        for (std::size_t j = 0; j < kN; ++j) c[i * kN + j] += x * b[k * kN + j];
      }
    }
    a[round % (kN * kN)] += 1;
  }
  return static_cast<std::uint64_t>(c[kN + 1]);
}

std::uint64_t sha256(std::uint32_t size) {
  std::vector<std::uint8_t> data(64 * 1024, 7);
  std::uint8_t digest[crypto_hash_sha256_BYTES] = {};
  for (std::uint32_t round = 0; round < size; ++round) {
    std::memcpy(data.data(), digest, sizeof digest);
    crypto_hash_sha256(digest, data.data(), data.size());
  }
  std::uint64_t sum = 0;
  std::memcpy(&sum, digest, sizeof sum);
  return sum;
}

std::uint64_t deflate(std::uint32_t size) {
  std::mt19937_64 random(3);
  std::string text;
  while (text.size() < std::size_t{size} * 8192) {
    text += "word" + std::to_string(random() % 2000) + (random() % 9 == 0 ? "\n" : " ");
  }
  std::vector<Bytef> out(compressBound(text.size()));
  uLongf n = out.size();
  if (compress2(out.data(), &n, reinterpret_cast<const Bytef*>(text.data()), text.size(), 6) != Z_OK) return 0;
  return n;
}

struct Body {
  double p[3], v[3], mass;
};

void step(std::vector<Body>& bodies) {
  for (std::size_t i = 0; i < bodies.size(); ++i) {
    for (std::size_t j = i + 1; j < bodies.size(); ++j) {
      double d[3], square = 0.01;
      for (int k = 0; k < 3; ++k) {
        d[k] = bodies[i].p[k] - bodies[j].p[k];
        square += d[k] * d[k];
      }
      const double f = 0.001 / (square * std::sqrt(square));
      for (int k = 0; k < 3; ++k) {
        bodies[i].v[k] -= d[k] * bodies[j].mass * f;
        bodies[j].v[k] += d[k] * bodies[i].mass * f;
      }
    }
  }
  for (Body& b : bodies) {
    for (int k = 0; k < 3; ++k) b.p[k] += 0.001 * b.v[k];
  }
}

std::uint64_t nbody(std::uint32_t size) {
  std::vector<Body> bodies(64);
  for (std::size_t i = 0; i < bodies.size(); ++i) {
    const auto x = static_cast<double>(i);
    bodies[i] = {{std::sin(x), std::cos(x), x / 64}, {0, 0, 0}, 1 + x / 100};
  }
  for (std::uint32_t round = 0; round < size * 20; ++round) step(bodies);
  return static_cast<std::uint64_t>(std::abs(bodies[1].p[0]) * 1e9);
}

std::uint64_t allocate(std::uint32_t size) {
  std::mt19937_64 random(4);
  std::map<std::uint64_t, std::unique_ptr<std::string>> live;
  for (std::uint32_t i = 0; i < size * 1500; ++i) {
    live[random() % 4096] = std::make_unique<std::string>(random() % 700, 'x');
  }
  return live.size();
}

}  // namespace

std::uint64_t run_kernel(Kernel which, std::uint32_t size) {
  switch (which) {
    case Kernel::kSort:
      return sort(size);
    case Kernel::kHashTable:
      return hash_table(size);
    case Kernel::kMatrix:
      return matrix(size);
    case Kernel::kSha256:
      return sha256(size);
    case Kernel::kDeflate:
      return deflate(size);
    case Kernel::kNbody:
      return nbody(size);
    case Kernel::kAllocate:
      return allocate(size);
    case Kernel::kCount:
      break;
  }
  return 0;
}

}  // namespace workload
