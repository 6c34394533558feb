// Arithmetic on the bitmaps of a range, compiled for several instruction sets; the best one is chosen at run time. Bit
// i % 8 of byte i / 8 stands for document i. Pointers need no alignment.

#ifndef DPSR_OPS_CC_CORE_BM25_BITS_H_
#define DPSR_OPS_CC_CORE_BM25_BITS_H_

#include <cstdint>
#include <vector>

#include "ops_cc/core/bm25/index.h"
#include "ops_cc/core/bm25/threshold.h"

namespace dpsr {

constexpr int64_t kBitmapBytes = kRangeDocuments / 8;
// Parts of a bitmap that are evaluated or left out: one bit each of a mask.
constexpr int64_t kBlocks = 32;
constexpr int64_t kBlockDocuments = kRangeDocuments / kBlocks;
constexpr int64_t kBlockBytes = kBlockDocuments / 8;
static_assert(kBlockBytes % 64 == 0, "a block is a multiple of the widest register");

struct BitKernels {
  const char* name;

  // values[node] of a program, bitmaps, at the blocks of the mask. values[kNone] and values[kAll] are given, and
  // bits[list] for every list of a branch.
  void (*evaluate)(const ThresholdProgram& program, const uint8_t* const* bits, uint32_t blocks, uint8_t* values);

  // sums[i] += value for the documents of a bitmap; i < kRangeDocuments.
  void (*add)(const uint8_t* bits, int32_t value, int32_t* sums);

  // bits = sums[i] >= least.
  void (*compare)(const int32_t* sums, int32_t least, uint8_t* bits);
};

// The functions for the processor this runs on; the same at every call.
const BitKernels& BestBitKernels();

// Those of every instruction set that this processor has, for tests.
std::vector<const BitKernels*> AllBitKernels();

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_BM25_BITS_H_
