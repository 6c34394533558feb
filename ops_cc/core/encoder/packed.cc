#include "ops_cc/core/encoder/packed.h"

#include <algorithm>
#include <cmath>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dpsr {
namespace {

// As dense.cc: whatever this file is compiled for.
namespace plain {
#define DPSR_TARGET
constexpr const char* kName = "plain";
constexpr int kLanes = 4;
constexpr int kRows = 4;
typedef int16_t Halves __attribute__((vector_size(16)));
#if defined(__x86_64__)
#define DPSR_SQUARE_ROOT(x) _mm_sqrt_ps(x)
#define DPSR_ROUND(x) reinterpret_cast<Integers>(_mm_cvtps_epi32(x))
#define DPSR_MULTIPLY_PAIRS(x, y) \
  reinterpret_cast<Integers>(_mm_madd_epi16(reinterpret_cast<__m128i>(x), reinterpret_cast<__m128i>(y)))
#else
#define DPSR_SQUARE_ROOT(x) \
  Vector { std::sqrt((x)[0]), std::sqrt((x)[1]), std::sqrt((x)[2]), std::sqrt((x)[3]) }
#define DPSR_ROUND(x)                                                                               \
  Integers {                                                                                        \
    static_cast<int32_t>(std::nearbyint((x)[0])), static_cast<int32_t>(std::nearbyint((x)[1])),     \
        static_cast<int32_t>(std::nearbyint((x)[2])), static_cast<int32_t>(std::nearbyint((x)[3])), \
  }
#define DPSR_MULTIPLY_PAIRS(x, y) ((((x) << 16) >> 16) * (((y) << 16) >> 16) + ((x) >> 16) * ((y) >> 16))
#endif
#include "ops_cc/core/encoder/packed_target.inc"
#undef DPSR_TARGET
#undef DPSR_SQUARE_ROOT
#undef DPSR_ROUND
#undef DPSR_MULTIPLY_PAIRS
}  // namespace plain

#if defined(__x86_64__)
namespace avx2 {
#define DPSR_TARGET __attribute__((target("avx2,fma")))
#define DPSR_SQUARE_ROOT(x) _mm256_sqrt_ps(x)
#define DPSR_ROUND(x) reinterpret_cast<Integers>(_mm256_cvtps_epi32(x))
#define DPSR_MULTIPLY_PAIRS(x, y) \
  reinterpret_cast<Integers>(_mm256_madd_epi16(reinterpret_cast<__m256i>(x), reinterpret_cast<__m256i>(y)))
constexpr const char* kName = "avx2";
constexpr int kLanes = 8;
constexpr int kRows = 6;
typedef int16_t Halves __attribute__((vector_size(32)));
#include "ops_cc/core/encoder/packed_target.inc"
#undef DPSR_TARGET
#undef DPSR_SQUARE_ROOT
#undef DPSR_ROUND
#undef DPSR_MULTIPLY_PAIRS
}  // namespace avx2

#define DPSR_SQUARE_ROOT(x) _mm512_maskz_sqrt_ps(0xFFFF, x)
#define DPSR_ROUND(x) reinterpret_cast<Integers>(_mm512_maskz_cvtps_epi32(0xFFFF, x))
#define DPSR_MULTIPLY_PAIRS(x, y) \
  reinterpret_cast<Integers>(_mm512_madd_epi16(reinterpret_cast<__m512i>(x), reinterpret_cast<__m512i>(y)))
namespace avx512 {
#define DPSR_TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,fma")))
constexpr const char* kName = "avx512";
constexpr int kLanes = 16;
constexpr int kRows = 8;
typedef int16_t Halves __attribute__((vector_size(64)));
#include "ops_cc/core/encoder/packed_target.inc"
#undef DPSR_TARGET
}  // namespace avx512

namespace avx512_vnni {
#define DPSR_TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx512vnni,fma")))
#define DPSR_DOT_BYTES(sum, x, y) \
  reinterpret_cast<Integers>(     \
      _mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(x), reinterpret_cast<__m512i>(y)))
constexpr const char* kName = "avx512_vnni";
constexpr int kLanes = 16;
constexpr int kRows = 8;
#include "ops_cc/core/encoder/packed_target.inc"
#undef DPSR_TARGET
#undef DPSR_DOT_BYTES
}  // namespace avx512_vnni
#undef DPSR_SQUARE_ROOT
#undef DPSR_ROUND
#undef DPSR_MULTIPLY_PAIRS
#endif

}  // namespace

std::vector<const PackedKernels*> AllPackedKernels() {
  std::vector<const PackedKernels*> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma")) {
    if (__builtin_cpu_supports("avx512vnni")) found.push_back(&avx512_vnni::kKernels);
    found.push_back(&avx512::kKernels);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&avx2::kKernels);
#endif
  found.push_back(&plain::kKernels);
  return found;
}

const PackedKernels& Packed() {
  static const PackedKernels& best = *AllPackedKernels().front();
  return best;
}

}  // namespace dpsr
