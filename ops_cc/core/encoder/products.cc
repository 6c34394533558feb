#include "ops_cc/core/encoder/products.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dpsr {
namespace {

#define DPSR_WITH_BFLOAT16
#define DPSR_KERNELS "ops_cc/core/encoder/products_target.inc"
#include "ops_cc/core/instruction_sets.inc"

const ProductKernels& BestOf(int64_t numbers) {
  for (const ProductKernels* kernels : Available()) {
    if (kernels->numbers == numbers) return *kernels;
  }
  return plain::kKernels;
}

}  // namespace

std::vector<const ProductKernels*> AllProductKernels() { return Available(); }

const ProductKernels& Products(bool bfloat16) {
  static const ProductKernels& singles = BestOf(1);
  static const ProductKernels& pairs = BestOf(2);
  return bfloat16 && pairs.numbers == 2 ? pairs : singles;
}

}  // namespace dpsr
