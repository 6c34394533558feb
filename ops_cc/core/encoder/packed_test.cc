// Every instruction set of this processor against plain loops, and against each other bit for bit where they count.

#include "ops_cc/core/encoder/packed.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace dpsr {
namespace {

class PackedKernelsTest : public testing::TestWithParam<const PackedKernels*> {
 protected:
  std::vector<float> Draw(int64_t size) {
    std::normal_distribution<float> normal;
    std::vector<float> values(size);
    for (float& value : values) value = normal(random_);
    return values;
  }

  const PackedKernels& kernels() const { return *GetParam(); }
  std::mt19937 random_{1};
};

struct Sizes {
  int64_t rows, depth, columns;
};
constexpr Sizes kSizes[] = {{1, 1, 1}, {3, 7, 16}, {8, 12, 32}, {9, 33, 40}, {21, 64, 100}, {2, 5, 70}};

TEST_P(PackedKernelsTest, ProductsAreThose) {
  for (const auto& [rows, depth, columns] : kSizes) {
    const int64_t stride = PaddedTo(columns, kPanelColumns);
    const std::vector<float> left = Draw(rows * depth), right = Draw(depth * columns);
    const std::vector<float> bias = Draw(stride), added = Draw(rows * stride);
    std::vector<float> panels(depth * stride), result(rows * stride);
    for (int64_t k = 0; k < depth; ++k) {
      for (int64_t j = 0; j < columns; ++j) {
        panels[(j / kPanelColumns * depth + k) * kPanelColumns + j % kPanelColumns] = right[k * columns + j];
      }
    }
    for (const bool more : {false, true}) {
      const ProductTarget target = {more ? bias.data() : nullptr, more ? added.data() : nullptr, result.data(), stride};
      kernels().multiply(left.data(), depth, rows, {panels.data(), depth * kPanelColumns, kPanelColumns}, depth,
                         columns, target);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          double expected = more ? bias[j] + added[i * stride + j] : 0.0;
          for (int64_t k = 0; k < depth; ++k) expected += left[i * depth + k] * right[k * columns + j];
          EXPECT_NEAR(result[i * stride + j], expected, 1e-4);
        }
      }
    }
  }
}

TEST_P(PackedKernelsTest, ProductsOfBytesAreExact) {
  std::uniform_int_distribution<int> value(-127, 127);
  for (const auto& [rows, depth, columns] : kSizes) {
    const int64_t stride = PaddedTo(columns, kPanelColumns), padded = PaddedTo(depth, kByteRows);
    std::vector<uint8_t> left(rows * padded, 128);
    std::vector<int8_t> panels(padded * stride);
    std::vector<int> right(depth * columns);
    std::vector<float> sums(stride), scales(stride, 1.0f), ones(rows, 1.0f), bias(stride), result(rows * stride);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t k = 0; k < depth; ++k) left[i * padded + k] = static_cast<uint8_t>(128 + value(random_));
    }
    left[0] = 255;
    for (int64_t k = 0; k < depth; ++k) {
      for (int64_t j = 0; j < columns; ++j) {
        const int drawn = j % 3 == 0 ? 127 : value(random_);
        right[k * columns + j] = drawn;
        panels[((j / kPanelColumns * padded / kByteRows + k / kByteRows) * kPanelColumns + j % kPanelColumns) *
                   kByteRows +
               k % kByteRows] = static_cast<int8_t>(drawn);
        sums[j] += static_cast<float>(drawn);
      }
    }
    kernels().multiply_bytes({left.data(), padded, ones.data()}, rows, {panels.data(), scales.data(), sums.data()},
                             depth, columns, {bias.data(), nullptr, result.data(), stride});
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        int expected = 0;
        for (int64_t k = 0; k < depth; ++k) expected += (left[i * padded + k] - 128) * right[k * columns + j];
        EXPECT_EQ(result[i * stride + j], static_cast<float>(expected));
      }
    }
  }
}

TEST_P(PackedKernelsTest, RowsAreQuantisedToTheNearestOnEveryInstructionSet) {
  for (const int64_t size : {1, 4, 15, 32, 67}) {
    std::vector<float> row = Draw(size);
    // Halves between two integers too: the greatest is 127 steps of 1/4.
    for (int64_t i = 0; i < size; i += 2) row[i] = std::round(row[i] * 80.0f) / 8.0f / 4.0f;
    row[size / 2] = -127.0f / 4.0f;
    const int64_t padded = PaddedTo(size, kByteRows);
    std::vector<uint8_t> bytes(padded), plain(padded);
    const float scale = kernels().quantise(row.data(), size, bytes.data());
    EXPECT_EQ(scale, AllPackedKernels().back()->quantise(row.data(), size, plain.data()));
    EXPECT_EQ(bytes, plain);
    EXPECT_EQ(scale, 0.25f);
    for (int64_t i = 0; i < padded; ++i) {
      EXPECT_EQ(bytes[i], i < size ? 128 + static_cast<int>(std::nearbyint(row[i] * 4.0f)) : 128);
    }
  }
}

TEST_P(PackedKernelsTest, ARowOfZerosHasTheScaleZero) {
  const std::vector<float> row(9);
  std::vector<uint8_t> bytes(12);
  EXPECT_EQ(kernels().quantise(row.data(), 9, bytes.data()), 0.0f);
  EXPECT_EQ(bytes, std::vector<uint8_t>(12, 128));
}

INSTANTIATE_TEST_SUITE_P(All, PackedKernelsTest, testing::ValuesIn(AllPackedKernels()),
                         [](const auto& info) { return info.param->name; });

}  // namespace
}  // namespace dpsr
