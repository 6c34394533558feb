#include "ops_cc/core/dense.h"

#include <algorithm>

namespace dpsr {
namespace {

// Whatever this file is compiled for; x86-64 has 4 lanes at least.
namespace plain {
#define DPSR_TARGET
constexpr const char* kName = "plain";
constexpr int kLanes = 4;
constexpr int kRows = 4;
#include "ops_cc/core/dense_target.inc"
#undef DPSR_TARGET
}  // namespace plain

#if defined(__x86_64__)
namespace avx2 {
#define DPSR_TARGET __attribute__((target("avx2,fma")))
constexpr const char* kName = "avx2";
constexpr int kLanes = 8;
constexpr int kRows = 6;
#include "ops_cc/core/dense_target.inc"
#undef DPSR_TARGET
}  // namespace avx2

namespace avx512 {
#define DPSR_TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,fma")))
constexpr const char* kName = "avx512";
constexpr int kLanes = 16;
constexpr int kRows = 8;
#include "ops_cc/core/dense_target.inc"
#undef DPSR_TARGET
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
