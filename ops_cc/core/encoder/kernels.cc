#include "ops_cc/core/encoder/kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dpsr {
namespace {

// The finaliser of SplitMix64: every bit of the result depends on every bit of `x`.
uint64_t Mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

// As dense.cc: whatever this file is compiled for.
namespace plain {
#define DPSR_TARGET
#if defined(__x86_64__)
#define DPSR_SQUARE_ROOT(x) _mm_sqrt_ps(x)
#else
#define DPSR_SQUARE_ROOT(x) \
  Vector { std::sqrt((x)[0]), std::sqrt((x)[1]), std::sqrt((x)[2]), std::sqrt((x)[3]) }
#endif
constexpr const char* kName = "plain";
constexpr int kLanes = 4;
#include "ops_cc/core/encoder/kernels_target.inc"
#undef DPSR_TARGET
#undef DPSR_SQUARE_ROOT
}  // namespace plain

#if defined(__x86_64__)
namespace avx2 {
#define DPSR_TARGET __attribute__((target("avx2,fma")))
#define DPSR_SQUARE_ROOT(x) _mm256_sqrt_ps(x)
constexpr const char* kName = "avx2";
constexpr int kLanes = 8;
#include "ops_cc/core/encoder/kernels_target.inc"
#undef DPSR_TARGET
#undef DPSR_SQUARE_ROOT
}  // namespace avx2

namespace avx512 {
#define DPSR_TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,fma")))
#define DPSR_SQUARE_ROOT(x) _mm512_maskz_sqrt_ps(0xFFFF, x)
constexpr const char* kName = "avx512";
constexpr int kLanes = 16;
#include "ops_cc/core/encoder/kernels_target.inc"
#undef DPSR_TARGET
#undef DPSR_SQUARE_ROOT
}  // namespace avx512
#endif

}  // namespace

Dropout Dropout::Of(uint64_t place) const { return {Mix(key ^ Mix(place)), rate}; }

std::vector<const EncoderKernels*> AllEncoderKernels() {
  std::vector<const EncoderKernels*> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma")) {
    found.push_back(&avx512::kKernels);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&avx2::kKernels);
#endif
  found.push_back(&plain::kKernels);
  return found;
}

const EncoderKernels& Encoder() {
  static const EncoderKernels& best = *AllEncoderKernels().front();
  return best;
}

}  // namespace dpsr
