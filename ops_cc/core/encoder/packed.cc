#include "ops_cc/core/encoder/packed.h"

#include <algorithm>
#include <cmath>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dpsr {
namespace {

#define DPSR_WITH_VNNI
#define DPSR_KERNELS "ops_cc/core/encoder/packed_target.inc"
#include "ops_cc/core/instruction_sets.inc"

}  // namespace

std::vector<const PackedKernels*> AllPackedKernels() { return Available(); }

const PackedKernels& Packed() {
  static const PackedKernels& best = *Available().front();
  return best;
}

}  // namespace dpsr
