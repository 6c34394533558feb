// Every instruction set of this processor against plain loops in float64.

#include "ops_cc/core/encoder/kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>
#include <vector>

namespace dpsr {
namespace {

std::vector<float> Draw(std::mt19937* random, int64_t size, float scale = 1.0f) {
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(size);
  for (float& value : values) value = normal(*random);
  return values;
}

class EncoderKernelsTest : public testing::TestWithParam<const EncoderKernels*> {
 protected:
  const EncoderKernels& kernels() const { return *GetParam(); }
  std::mt19937 random_{1};
};

double Exact(Activation activation, double x) {
  const double cubic = std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x);
  switch (activation) {
    case Activation::kGelu:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Activation::kGeluTanh:
      return 0.5 * x * (1.0 + std::tanh(cubic));
    default:
      return x > 0.0 ? x : 0.0;
  }
}

TEST_P(EncoderKernelsTest, ActivationsAndDerivativesAreThose) {
  for (const Activation activation : {Activation::kGelu, Activation::kGeluTanh, Activation::kRelu}) {
    std::vector<float> input = Draw(&random_, 4001, 3.0f);
    input[0] = -60.0f, input[1] = 60.0f, input[2] = -1e30f, input[3] = 0.0f;
    std::vector<float> output(input.size()), again(input.size()), gradient(input.size(), 2.0f);
    kernels().activate(activation, input.data(), input.size(), output.data());
    kernels().activation_gradient(activation, input.data(), input.size(), again.data(), gradient.data());
    EXPECT_EQ(output, again);
    for (size_t i = 0; i < input.size(); ++i) {
      EXPECT_NEAR(output[i], Exact(activation, input[i]), 1e-6 * std::max(1.0f, std::abs(output[i]))) << input[i];
      if (std::abs(input[i]) < 1e-3 || std::abs(input[i]) > 50.0f) continue;
      const double slope = (Exact(activation, input[i] + 1e-5) - Exact(activation, input[i] - 1e-5)) / 2e-5;
      EXPECT_NEAR(gradient[i], 2.0 * slope, 5e-6) << input[i];
    }
    EXPECT_NEAR(gradient[0], 0.0f, 1e-6);
    EXPECT_NEAR(gradient[1], 2.0f, 1e-6);
  }
}

// A layer norm of one row in float64.
std::vector<double> Normed(const std::vector<double>& row, const std::vector<float>& scale,
                           const std::vector<float>& offset, double epsilon) {
  double mean = 0.0, variance = 0.0;
  for (double value : row) mean += value / row.size();
  for (double value : row) variance += (value - mean) * (value - mean) / row.size();
  std::vector<double> normed(row.size());
  for (size_t i = 0; i < row.size(); ++i) {
    normed[i] = (row[i] - mean) / std::sqrt(variance + epsilon) * scale[i] + offset[i];
  }
  return normed;
}

TEST_P(EncoderKernelsTest, LayerNormIsThatOfEveryRow) {
  for (const int64_t width : {1, 7, 16, 37, 384}) {
    const std::vector<float> input = Draw(&random_, 5 * width), scale = Draw(&random_, width),
                             offset = Draw(&random_, width);
    std::vector<float> output = input;
    kernels().layer_norm(output.data(), 5, width, scale.data(), offset.data(), 1e-5f, output.data());
    for (int64_t row = 0; row < 5; ++row) {
      const std::vector<double> expected =
          Normed({input.begin() + row * width, input.begin() + (row + 1) * width}, scale, offset, 1e-5);
      for (int64_t i = 0; i < width; ++i) ASSERT_NEAR(output[row * width + i], expected[i], 1e-5);
    }
  }
}

TEST_P(EncoderKernelsTest, LayerNormGradientIsFiniteDifferences) {
  for (const int64_t width : {2, 16, 37}) {
    const std::vector<float> input = Draw(&random_, 2 * width), by_output = Draw(&random_, 2 * width),
                             scale = Draw(&random_, width), offset(width, 0.0f);
    std::vector<float> by_input(2 * width, 1.0f), by_scale(width, 1.0f), by_offset(width, 1.0f);
    kernels().layer_norm_gradient(input.data(), by_output.data(), 2, width, scale.data(), 0.1f, by_input.data(),
                                  by_scale.data(), by_offset.data());
    std::vector<double> expected_scale(width, 1.0), expected_offset(width, 1.0);
    for (int64_t row = 0; row < 2; ++row) {
      std::vector<double> values(input.begin() + row * width, input.begin() + (row + 1) * width);
      const auto loss = [&] {
        const std::vector<double> normed = Normed(values, scale, offset, 0.1);
        double sum = 0.0;
        for (int64_t i = 0; i < width; ++i) sum += normed[i] * by_output[row * width + i];
        return sum;
      };
      const std::vector<double> unit = Normed(values, std::vector<float>(width, 1.0f), offset, 0.1);
      for (int64_t i = 0; i < width; ++i) {
        expected_scale[i] += unit[i] * by_output[row * width + i];
        expected_offset[i] += by_output[row * width + i];
        values[i] += 1e-4;
        const double above = loss();
        values[i] -= 2e-4;
        const double below = loss();
        values[i] += 1e-4;
        EXPECT_NEAR(by_input[row * width + i], 1.0 + (above - below) / 2e-4, 1e-4) << width;
      }
    }
    for (int64_t i = 0; i < width; ++i) {
      EXPECT_NEAR(by_scale[i], expected_scale[i], 1e-5);
      EXPECT_NEAR(by_offset[i], expected_offset[i], 1e-5);
    }
  }
}

TEST_P(EncoderKernelsTest, SoftmaxAndItsGradientLeaveThePaddingAtZero) {
  constexpr int64_t kRows = 3;
  for (const int64_t columns : {1, 5, 16, 21, 48}) {
    const int64_t stride = (columns + 15) / 16 * 16;
    std::vector<float> scores = Draw(&random_, kRows * stride, 20.0f), gradient = Draw(&random_, kRows * stride);
    for (int64_t i = columns; i < stride; ++i) scores[i] = std::nanf("");
    const std::vector<float> before = scores, by_probability = gradient;
    kernels().softmax(scores.data(), kRows, columns, stride, 0.25f);
    kernels().softmax_gradient(scores.data(), kRows, stride, 0.25f, gradient.data());
    for (int64_t row = 0; row < kRows; ++row) {
      double total = 0.0, along = 0.0;
      const float* const of_row = before.data() + row * stride;
      for (int64_t i = 0; i < columns; ++i) total += std::exp(0.25 * of_row[i]);
      for (int64_t i = 0; i < columns; ++i) {
        along += std::exp(0.25 * of_row[i]) / total * by_probability[row * stride + i];
      }
      for (int64_t i = 0; i < stride; ++i) {
        const int64_t at = row * stride + i;
        const double expected = i < columns ? std::exp(0.25 * of_row[i]) / total : 0.0;
        EXPECT_NEAR(scores[at], expected, 1e-5);
        EXPECT_NEAR(gradient[at], 0.25 * expected * (by_probability[at] - along), 1e-5);
      }
    }
  }
}

TEST_P(EncoderKernelsTest, DropsItsShareAndTheSameForEveryInstructionSet) {
  constexpr int64_t kRows = 200, kWidth = 403;
  const Dropout dropout = Dropout{7, 0.1f}.Of(3);
  std::vector<float> ones(kRows * kWidth, 1.0f), output(ones.size()), first(ones.size()), other(ones.size());
  kernels().drop(dropout, 5, ones.data(), kRows, kWidth, output.data());
  AllEncoderKernels().back()->drop(dropout, 5, ones.data(), kRows, kWidth, first.data());
  EXPECT_EQ(output, first);
  kernels().drop(dropout, 6, ones.data(), kRows - 1, kWidth, other.data());
  EXPECT_TRUE(std::equal(output.begin() + kWidth, output.end(), other.begin()));
  kernels().drop(dropout.Of(4), 5, ones.data(), kRows, kWidth, other.data());
  double dropped = 0.0, both = 0.0;
  for (size_t i = 0; i < output.size(); ++i) {
    EXPECT_TRUE(output[i] == 0.0f || output[i] == 1.0f / (1.0f - 0.1f));
    dropped += output[i] == 0.0f;
    both += output[i] == 0.0f && other[i] == 0.0f;
  }
  EXPECT_NEAR(dropped / output.size(), 0.1, 0.005);
  EXPECT_NEAR(both / output.size(), 0.01, 0.002);
}

INSTANTIATE_TEST_SUITE_P(All, EncoderKernelsTest, testing::ValuesIn(AllEncoderKernels()),
                         [](const auto& info) { return info.param->name; });

}  // namespace
}  // namespace dpsr
