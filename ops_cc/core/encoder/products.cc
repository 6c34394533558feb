#include "ops_cc/core/encoder/products.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dpsr {
namespace {

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
constexpr int kRows = 4;
#include "ops_cc/core/encoder/products_target.inc"
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
#include "ops_cc/core/encoder/products_target.inc"
#undef DPSR_TARGET
#undef DPSR_SQUARE_ROOT
}  // namespace avx2

namespace avx512 {
#define DPSR_TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,fma")))
#define DPSR_SQUARE_ROOT(x) _mm512_maskz_sqrt_ps(0xFFFF, x)
constexpr const char* kName = "avx512";
constexpr int kLanes = 16;
constexpr int kRows = 8;
#include "ops_cc/core/encoder/products_target.inc"
#undef DPSR_TARGET
#undef DPSR_SQUARE_ROOT
}  // namespace avx512

namespace bfloat16 {
#define DPSR_TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx512bf16,fma")))
#define DPSR_SQUARE_ROOT(x) _mm512_maskz_sqrt_ps(0xFFFF, x)
#define DPSR_ROUND(x) (Rounded)(__m256i) _mm512_cvtneps_pbh(x)
#define DPSR_ADD_PAIRS(sum, a, b) _mm512_dpbf16_ps(sum, (__m512bh)(a), (__m512bh)(b))
constexpr const char* kName = "bfloat16";
constexpr int kLanes = 16;
constexpr int kRows = 8;
#include "ops_cc/core/encoder/products_target.inc"
#undef DPSR_TARGET
#undef DPSR_SQUARE_ROOT
#undef DPSR_ROUND
#undef DPSR_ADD_PAIRS
}  // namespace bfloat16
#endif

}  // namespace

std::vector<const ProductKernels*> AllProductKernels() {
  std::vector<const ProductKernels*> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma")) {
    found.push_back(&avx512::kKernels);
    if (__builtin_cpu_supports("avx512bf16")) found.push_back(&bfloat16::kKernels);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&avx2::kKernels);
#endif
  found.push_back(&plain::kKernels);
  return found;
}

const ProductKernels& Products(bool bfloat16) {
  static const std::vector<const ProductKernels*>& all = *new std::vector<const ProductKernels*>(AllProductKernels());
  return *(bfloat16 && all.size() > 1 && all[1]->numbers == 2 ? all[1] : all[0]);
}

}  // namespace dpsr
