// Products with matrices that were laid out once, when a model was exported: the same layout for every instruction set,
// as float32 or as int8. The best instruction set is chosen at run time.
//
// As in dense.h: no TensorFlow, no threads, no memory of its own. A row's result has the same bits whatever rows are
// handled with it. The integers behind an int8 product are the same on every instruction set.

#ifndef DPSR_OPS_CC_CORE_ENCODER_PACKED_H_
#define DPSR_OPS_CC_CORE_ENCODER_PACKED_H_

#include <cstdint>
#include <vector>

namespace dpsr {

// A packed matrix is a row of panels of so many columns, the last one filled up with zeros.
constexpr int64_t kPanelColumns = 32;
// Rows of an int8 matrix lie together by so many, filled up with zeros.
constexpr int64_t kByteRows = 4;

constexpr int64_t PaddedTo(int64_t size, int64_t multiple) { return (size + multiple - 1) / multiple * multiple; }

// The right side of a product [depth, columns]: row k of the panel p is data[p * panel_stride + k * row_stride].
struct FloatPanels {
  const float* data;
  int64_t panel_stride;  // depth * kPanelColumns of a packed matrix
  int64_t row_stride;    // kPanelColumns of a packed matrix
};

// The right side of a product in int8: element (k, j) is data[panel][k / 4][j % 32][k % 4] * scales[j].
struct BytePanels {
  const int8_t* data;
  const float* scales;  // [columns, padded to panels]
  const float* sums;    // the same; sums of the integers of each column
};

// The left side in int8: element (i, k) is (data[i * stride + k] - 128) * scales[i].
struct ByteRows {
  const uint8_t* data;
  int64_t stride;  // at least the depth, padded to kByteRows
  const float* scales;
};

// Where a product goes: result = product + bias + added. Columns are filled up to whole registers, at most 16.
struct ProductTarget {
  const float* bias;   // [columns, padded]; nullptr: none
  const float* added;  // [rows, columns], strided as the result, which it may be; nullptr: none
  float* data;
  int64_t stride;
};

// All functions of one instruction set. Pointers need no alignment.
struct PackedKernels {
  const char* name;

  // target = left [rows, depth] * right [depth, columns].
  void (*multiply)(const float* left, int64_t left_stride, int64_t rows, const FloatPanels& right, int64_t depth,
                   int64_t columns, const ProductTarget& target);
  void (*multiply_bytes)(const ByteRows& left, int64_t rows, const BytePanels& right, int64_t depth, int64_t columns,
                         const ProductTarget& target);

  // A row as 128 + round(127 * row / its greatest magnitude), filled up to whole kByteRows; returns its scale.
  float (*quantise)(const float* row, int64_t size, uint8_t* bytes);
};

// The functions for the processor this runs on; the same at every call.
const PackedKernels& Packed();

// Those of every instruction set that this processor has, for tests.
std::vector<const PackedKernels*> AllPackedKernels();

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_ENCODER_PACKED_H_
