#include "ops_cc/core/dense.h"

#include <algorithm>
#include <cmath>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dpsr {
namespace {

#define DPSR_KERNELS "ops_cc/core/dense_target.inc"
#include "ops_cc/core/instruction_sets.inc"

}  // namespace

std::vector<const DenseKernels*> AllDenseKernels() { return Available(); }

const DenseKernels& Dense() {
  static const DenseKernels& best = *Available().front();
  return best;
}

}  // namespace dpsr
