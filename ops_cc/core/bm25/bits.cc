#include "ops_cc/core/bm25/bits.h"

#include <cmath>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dpsr {
namespace {

#define DPSR_KERNELS "ops_cc/core/bm25/bits_target.inc"
#include "ops_cc/core/instruction_sets.inc"

}  // namespace

std::vector<const BitKernels*> AllBitKernels() { return Available(); }

const BitKernels& BestBitKernels() {
  static const BitKernels& best = *Available().front();
  return best;
}

}  // namespace dpsr
