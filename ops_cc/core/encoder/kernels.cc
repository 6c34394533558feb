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

#define DPSR_KERNELS "ops_cc/core/encoder/kernels_target.inc"
#include "ops_cc/core/instruction_sets.inc"

}  // namespace

Dropout Dropout::Of(uint64_t place) const { return {Mix(key ^ Mix(place)), rate}; }

std::vector<const EncoderKernels*> AllEncoderKernels() { return Available(); }

const EncoderKernels& Encoder() {
  static const EncoderKernels& best = *Available().front();
  return best;
}

}  // namespace dpsr
