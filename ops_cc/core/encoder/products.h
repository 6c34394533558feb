// Products of matrices, of float32 or of operands rounded to bfloat16 and summed in float32.
//
// Both sides are made of units of four bytes along the depth, which is summed over: one number, or two rounded ones.
// Sums run in the order of the depth alone, however rows and columns are shared out among threads.

#ifndef DPSR_OPS_CC_CORE_ENCODER_PRODUCTS_H_
#define DPSR_OPS_CC_CORE_ENCODER_PRODUCTS_H_

#include <cstdint>
#include <vector>

namespace dpsr {

// The functions of one instruction set and one kind of unit. Values are float32 with rows `stride` apart.
struct ProductKernels {
  const char* name;
  int64_t numbers;        // of a unit: 1, or 2 of bfloat16
  int64_t panel_columns;  // of a panel of the right side, [units][panel_columns]
  int64_t tile_rows;      // of a tile of the left side, [units][tile_rows]

  // Lays out values [depth, columns] as the units `first_unit` and on of a right side with `units` of them, or their
  // transpose as those of a left side. Columns past the last one, and the second number of the last unit of an odd
  // depth, are 0.
  void (*pack_right)(const float* values, int64_t depth, int64_t columns, int64_t stride, int64_t first_unit,
                     int64_t units, float* panels);
  void (*pack_left)(const float* values, int64_t depth, int64_t columns, int64_t stride, int64_t first_unit,
                    int64_t units, float* tiles);
  // Lays out the transpose of values [columns, depth] as a right side.
  void (*pack_transposed)(const float* values, int64_t columns, int64_t depth, int64_t stride, float* panels);
  // Makes units of values [rows, depth] along their rows: [rows, UnitsOf(depth)].
  void (*round)(const float* values, int64_t rows, int64_t depth, int64_t stride, float* units);

  // result[i, j] = start + sum over units of left[i] * right[j], for i < rows, j < columns. The left side is rows of
  // units, or tiles. `start` is 0, or the bias [columns] unless it is nullptr, or what the result was.
  void (*multiply_rows)(const float* left, int64_t rows, int64_t units, const float* panels, int64_t columns,
                        const float* bias, float* result, int64_t stride);
  void (*multiply_tiles)(const float* tiles, int64_t rows, int64_t units, const float* panels, int64_t columns,
                         bool accumulate, float* result, int64_t stride);

  int64_t UnitsOf(int64_t depth) const { return (depth + numbers - 1) / numbers; }
  // Floats of a right side and of a left side.
  int64_t PanelsSize(int64_t units, int64_t columns) const {
    return (columns + panel_columns - 1) / panel_columns * panel_columns * units;
  }
  int64_t TilesSize(int64_t units, int64_t columns) const {
    return (columns + tile_rows - 1) / tile_rows * tile_rows * units;
  }
};

// The functions for the processor this runs on; those of float32 where it has no products of bfloat16.
const ProductKernels& Products(bool bfloat16);

// All that this processor has, for tests.
std::vector<const ProductKernels*> AllProductKernels();

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_ENCODER_PRODUCTS_H_
