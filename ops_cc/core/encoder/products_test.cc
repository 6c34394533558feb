// Products of every instruction set and kind of unit against plain loops in float64.

#include "ops_cc/core/encoder/products.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

namespace dpsr {
namespace {

// Small whole numbers: exact in bfloat16, and so are their sums in float32.
std::vector<float> Draw(std::mt19937* random, int64_t size) {
  std::uniform_int_distribution<int> whole(-100, 100);
  std::vector<float> values(size);
  for (float& value : values) value = static_cast<float>(whole(*random));
  return values;
}

class ProductsTest : public testing::TestWithParam<const ProductKernels*> {
 protected:
  const ProductKernels& products() const { return *GetParam(); }
  std::mt19937 random_{1};
};

constexpr int64_t kShapes[][3] = {{1, 1, 1}, {5, 7, 3}, {64, 96, 64}, {37, 45, 300}, {9, 33, 257}, {13, 31, 600}};

TEST_P(ProductsTest, RowsTimesWeightsAndTheirTranspose) {
  for (const auto& [rows, columns, depth] : kShapes) {
    const int64_t units = products().UnitsOf(depth), stride = columns + 3;
    const std::vector<float> left = Draw(&random_, rows * (depth + 1)), right = Draw(&random_, depth * columns),
                             bias = Draw(&random_, columns);
    std::vector<float> turned(depth * columns), rounded(rows * units);
    for (int64_t k = 0; k < depth; ++k) {
      for (int64_t j = 0; j < columns; ++j) turned[j * depth + k] = right[k * columns + j];
    }
    products().round(left.data(), rows, depth, depth + 1, rounded.data());
    std::vector<float> panels(products().PanelsSize(units, columns), NAN), others = panels;
    products().pack_right(right.data(), depth, columns, columns, 0, units, panels.data());
    products().pack_transposed(turned.data(), columns, depth, depth, others.data());
    EXPECT_EQ(0, std::memcmp(panels.data(), others.data(), panels.size() * sizeof(float)));
    for (const float* start : {static_cast<const float*>(nullptr), bias.data()}) {
      std::vector<float> result(rows * stride, 2.0f);
      products().multiply_rows(rounded.data(), rows, units, panels.data(), columns, start, result.data(), stride);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < stride; ++j) {
          double expected = j >= columns ? 2.0 : start == nullptr ? 0.0 : bias[j];
          for (int64_t k = 0; j < columns && k < depth; ++k) {
            expected += static_cast<double>(left[i * (depth + 1) + k]) * right[k * columns + j];
          }
          ASSERT_EQ(result[i * stride + j], expected) << rows << "x" << columns << "x" << depth;
        }
      }
    }
  }
}

TEST_P(ProductsTest, TransposeTimesRowsThatComeInPieces) {
  for (const auto& [rows, columns, depth] : kShapes) {
    // The second piece begins at a whole unit.
    const int64_t cut = depth / 2, units = products().UnitsOf(cut) + products().UnitsOf(depth - cut);
    const std::vector<float> left = Draw(&random_, depth * rows), right = Draw(&random_, depth * columns);
    std::vector<float> tiles(products().TilesSize(units, rows), NAN);
    std::vector<float> panels(products().PanelsSize(units, columns), NAN);
    for (const auto& [first, count, unit] :
         {std::tuple{int64_t{0}, cut, int64_t{0}}, std::tuple{cut, depth - cut, products().UnitsOf(cut)}}) {
      products().pack_left(left.data() + first * rows, count, rows, rows, unit, units, tiles.data());
      products().pack_right(right.data() + first * columns, count, columns, columns, unit, units, panels.data());
    }
    for (const bool accumulate : {false, true}) {
      std::vector<float> result(rows * columns, 2.0f);
      products().multiply_tiles(tiles.data(), rows, units, panels.data(), columns, accumulate, result.data(), columns);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          double expected = accumulate ? 2.0 : 0.0;
          for (int64_t k = 0; k < depth; ++k) {
            expected += static_cast<double>(left[k * rows + i]) * right[k * columns + j];
          }
          ASSERT_EQ(result[i * columns + j], expected) << rows << "x" << columns << "x" << depth;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, ProductsTest, testing::ValuesIn(AllProductKernels()),
                         [](const auto& info) { return info.param->name; });

}  // namespace
}  // namespace dpsr
