#include "ops_cc/core/dense.h"

#include <algorithm>
#include <cmath>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dpsr {
namespace {

// Whatever this file is compiled for; x86-64 has 4 lanes at least.
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
constexpr int kRows = 4;
#include "ops_cc/core/dense_target.inc"
#undef DPSR_TARGET
#undef DPSR_SQUARE_ROOT
}  // namespace plain

#if defined(__x86_64__)
namespace avx2 {
#define DPSR_TARGET __attribute__((target("avx2,fma")))
#define DPSR_SQUARE_ROOT(x) _mm256_sqrt_ps(x)
constexpr const char* kName = "avx2";
constexpr int kLanes = 8;
constexpr int kRows = 6;
#include "ops_cc/core/dense_target.inc"
#undef DPSR_TARGET
#undef DPSR_SQUARE_ROOT
}  // namespace avx2

namespace avx512 {
#define DPSR_TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,fma")))
// Masked by nothing: GCC 12 warns of the plain one.
#define DPSR_SQUARE_ROOT(x) _mm512_maskz_sqrt_ps(0xFFFF, x)
constexpr const char* kName = "avx512";
constexpr int kLanes = 16;
constexpr int kRows = 8;
#include "ops_cc/core/dense_target.inc"
#undef DPSR_TARGET
#undef DPSR_SQUARE_ROOT
}  // namespace avx512
#endif

}  // namespace

std::vector<const DenseKernels*> AllDenseKernels() {
  std::vector<const DenseKernels*> found;
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

const DenseKernels& Dense() {
  static const DenseKernels& best = *AllDenseKernels().front();
  return best;
}

}  // namespace dpsr
