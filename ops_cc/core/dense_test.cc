// Every instruction set of this processor against plain loops in float64.

#include "ops_cc/core/dense.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "ops_cc/core/group_loss.h"
#include "ops_cc/core/tower.h"

namespace dpsr {
namespace {

constexpr float kNoNumber = std::numeric_limits<float>::quiet_NaN();

std::vector<float> Draw(std::mt19937* random, int64_t size) {
  std::normal_distribution<float> normal;
  std::vector<float> values(size);
  for (float& value : values) value = normal(*random);
  return values;
}

class DenseTest : public testing::TestWithParam<const DenseKernels*> {
 protected:
  const DenseKernels& dense() const { return *GetParam(); }
  std::mt19937 random_{1};
};

TEST_P(DenseTest, MultipliesAnyShapeAndLayout) {
  const int64_t shapes[][3] = {{1, 1, 1}, {5, 7, 3}, {64, 96, 64}, {37, 45, 300}, {8, 33, 257}, {13, 31, 0}};
  for (const auto& [rows, columns, depth] : shapes) {
    const std::vector<float> left = Draw(&random_, rows * depth), right = Draw(&random_, depth * columns);
    for (int layout = 0; layout < 8; ++layout) {
      const bool left_turned = layout & 1, right_turned = layout & 2, accumulate = layout & 4;
      const MatrixView a{left.data(), left_turned ? 1 : depth, left_turned ? rows : 1};
      const MatrixView b{right.data(), right_turned ? 1 : columns, right_turned ? depth : 1};
      PackedMatrix packed;
      dense().pack(b, depth, columns, &packed);
      const int64_t stride = columns + 3;
      std::vector<float> result(rows * stride, 2.0f);
      dense().multiply(a, rows, packed, 0, depth, accumulate, result.data(), stride);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < stride; ++j) {
          double expected = accumulate || j >= columns ? 2.0 : 0.0;
          for (int64_t k = 0; j < columns && k < depth; ++k) {
            expected += static_cast<double>(left[i * a.row_stride + k * a.column_stride]) *
                        right[k * b.row_stride + j * b.column_stride];
          }
          ASSERT_NEAR(result[i * stride + j], expected, 1e-4) << rows << "x" << columns << "x" << depth;
        }
      }
    }
  }
}

TEST_P(DenseTest, MultipliesSomeRowsOfThePacked) {
  const std::vector<float> left = Draw(&random_, 9 * 5), right = Draw(&random_, 20 * 40);
  PackedMatrix all, some;
  dense().pack({right.data(), 40, 1}, 20, 40, &all);
  dense().pack({right.data() + 7 * 40, 40, 1}, 5, 40, &some);
  std::vector<float> one(9 * 40), other(9 * 40);
  dense().multiply({left.data(), 5, 1}, 9, all, 7, 5, false, one.data(), 40);
  dense().multiply({left.data(), 5, 1}, 9, some, 0, 5, false, other.data(), 40);
  EXPECT_EQ(one, other);
}

TEST_P(DenseTest, ExponentialsAreThose) {
  constexpr int64_t kItems = 400;
  std::vector<float> scores(kItems * kBlockStride), shift(kBlockStride, 1.0f), sums(kBlockStride, 0.5f);
  for (size_t i = 0; i < scores.size(); ++i) scores[i] = 1.0f - 0.03f * static_cast<float>(i % 7000);
  scores[0] = kMasked;
  const std::vector<float> before = scores;
  dense().exponentials(scores.data(), kItems, kBlockStride, shift.data(), 2.0f, sums.data());
  std::vector<double> expected_sums(kBlockStride, 0.5);
  for (size_t i = 0; i < scores.size(); ++i) {
    const double expected = std::exp((static_cast<double>(before[i]) - 1.0) * 2.0);
    EXPECT_NEAR(scores[i], expected, 1e-6 * expected + 1e-37);
    expected_sums[i % kBlockStride] += expected;
  }
  EXPECT_EQ(scores[0], 0.0f);
  for (int64_t i = 0; i < kBlockStride; ++i) EXPECT_NEAR(sums[i], expected_sums[i], 1e-5 * expected_sums[i]);
  scores[3] = kNoNumber;
  dense().exponentials(scores.data(), 1, kBlockStride, shift.data(), 2.0f, sums.data());
  EXPECT_TRUE(std::isnan(scores[3]));
  EXPECT_TRUE(std::isnan(sums[3]));
}

TEST_P(DenseTest, SumsOfRowsOfAnyWidth) {
  for (const int64_t size : {1, 3, 16, 64, 77, 200}) {
    const std::vector<float> rows = Draw(&random_, 10 * size), weights = Draw(&random_, 6);
    const std::vector<int32_t> ids = {3, 9, 0, 3, 7, 1, 2, 2};
    std::vector<const float*> places;
    for (const int32_t id : ids) places.push_back(rows.data() + id * size);
    std::vector<float> by_id(size), unweighted(size), by_place(size);
    dense().sum_rows(rows.data(), ids.data(), weights.data(), 6, 8, size, 0.5f, by_id.data());
    dense().sum_rows(rows.data(), ids.data(), nullptr, 6, 6, size, 1.0f, unweighted.data());
    dense().sum_at(places.data(), weights.data(), 6, size, by_place.data());
    for (int64_t k = 0; k < size; ++k) {
      double plain = 0.0, weighted = 0.0;
      for (int i = 0; i < 6; ++i) {
        plain += rows[ids[i] * size + k];
        weighted += static_cast<double>(weights[i]) * rows[ids[i] * size + k];
      }
      EXPECT_NEAR(by_id[k], 0.5 * weighted, 1e-5);
      EXPECT_NEAR(unweighted[k], plain, 1e-5);
      EXPECT_NEAR(by_place[k], weighted, 1e-5);
    }
  }
}

TEST_P(DenseTest, AdagradOfAnySize) {
  for (const int64_t size : {1, 15, 64, 67}) {
    const std::vector<float> gradient = Draw(&random_, size);
    std::vector<float> values = Draw(&random_, size), squares(size, 0.1f);
    const std::vector<float> before = values;
    dense().adagrad(gradient.data(), size, 0.3f, 1e-7f, values.data(), squares.data());
    for (int64_t i = 0; i < size; ++i) {
      const double square = 0.1 + static_cast<double>(gradient[i]) * gradient[i];
      EXPECT_NEAR(squares[i], square, 1e-5);
      EXPECT_NEAR(values[i], before[i] - 0.3 * gradient[i] / std::sqrt(square + 1e-7), 1e-5);
    }
  }
}

TEST_P(DenseTest, ReluAndItsGradientKeepWhatIsNoNumber) {
  for (const int64_t size : {5, 40}) {
    std::vector<float> outputs = Draw(&random_, size), bias(size, 0.0f), gradient(size, 1.0f);
    outputs[2] = kNoNumber;
    const std::vector<float> before = outputs;
    dense().add_bias(bias.data(), 1, size, true, outputs.data());
    dense().relu_gradient(outputs.data(), size, gradient.data());
    for (int64_t i = 0; i < size; ++i) {
      if (i == 2) continue;
      EXPECT_EQ(outputs[i], std::max(before[i], 0.0f));
      EXPECT_EQ(gradient[i], before[i] > 0.0f ? 1.0f : 0.0f);
    }
    EXPECT_TRUE(std::isnan(outputs[2]));
  }
}

INSTANTIATE_TEST_SUITE_P(Sets, DenseTest, testing::ValuesIn(AllDenseKernels()),
                         [](const auto& set) { return set.param->name; });

// Python's tests compare these with TensorFlow; here they run under sanitizers, over every kind of strand.
TEST(GroupLossTest, ReadsAndWritesNothingElse) {
  std::mt19937 random(1);
  const int64_t sizes[][3] = {{64, 64, 63}, {300, 300, 20}, {192, 16, 5}, {200, 100, 0}, {70, 0, 9}, {0, 4, 3}};
  for (const auto& [rows, group, randoms] : sizes) {
    for (const int64_t heads : {1, 3}) {
      constexpr int64_t kDimension = 20, kHard = 7;
      const std::vector<float> head_vectors = Draw(&random, rows * heads * kDimension);
      const int64_t hard = rows == 0 ? 0 : kHard;
      const std::vector<float> items = Draw(&random, (rows + randoms + hard) * kDimension);
      std::vector<int32_t> query_rows(rows), item_rows(rows + randoms);
      for (int64_t i = 0; i < rows; ++i) query_rows[i] = static_cast<int32_t>(i % 11);
      for (int64_t i = 0; i < rows + randoms; ++i) item_rows[i] = static_cast<int32_t>(i % 17);
      std::vector<int64_t> splits(rows + 1, hard);
      splits[0] = 0;
      const std::vector<float> weights = Draw(&random, rows);
      for (const LossKind kind : {LossKind::kHinge, LossKind::kSoftmax, LossKind::kThreePart}) {
        GroupLoss loss{};
        loss.kind = kind;
        loss.margin = 0.1f;
        loss.temperature = loss.attention_temperature = 0.5f;
        loss.rows = rows;
        loss.heads = heads;
        loss.dimension = kDimension;
        loss.randoms = randoms;
        loss.group = group;
        loss.head_vectors = head_vectors.data();
        loss.item_vectors = items.data();
        loss.query_rows = query_rows.data();
        loss.item_rows = item_rows.data();
        loss.hard_splits = splits.data();
        loss.row_weights = heads == 1 ? nullptr : weights.data();
        std::vector<float> by_head(head_vectors.size(), kNoNumber), by_item(items.size(), kNoNumber);
        std::vector<float> parts(loss.PartsSize(), kNoNumber);
        double total = 0.0;
        for (int64_t strand = loss.NumStrands(); strand-- > 0;) {
          total += loss.Run(strand, by_head.data(), by_item.data(), parts.data());
        }
        loss.Reduce(0, rows + randoms, parts.data(), by_item.data());
        EXPECT_TRUE(std::isfinite(total));
        for (const float value : by_head) ASSERT_TRUE(std::isfinite(value)) << rows << " rows";
        for (const float value : by_item) ASSERT_TRUE(std::isfinite(value)) << rows << " rows";
      }
    }
  }
}

TEST(TowerTest, ReadsAndWritesNothingElse) {
  std::mt19937 random(1);
  for (const int64_t rows : {0, 1, 70, 200}) {
    constexpr int64_t kDimension = 10, kOutputs = 2;
    const std::vector<int64_t> inputs = {3 * kDimension, 33, 90}, widths = {33, 90, kOutputs * kDimension};
    std::vector<std::vector<float>> held;
    const auto drawn = [&](int64_t size) { return held.emplace_back(Draw(&random, size)).data(); };
    Tower tower{};
    tower.rows = rows;
    tower.dimension = kDimension;
    tower.outputs = kOutputs;
    tower.residual = true;
    tower.widths = widths;
    std::vector<float*> by_part, by_layer, by_kernel, by_bias;
    for (int part = 0; part < 3; ++part) {
      tower.parts.push_back(drawn(rows * kDimension));
      by_part.push_back(drawn(rows * kDimension));
    }
    for (int layer = 0; layer < 3; ++layer) {
      tower.kernels.push_back(drawn(inputs[layer] * widths[layer]));
      tower.biases.push_back(drawn(widths[layer]));
      if (layer < 2) tower.hidden.push_back(drawn(rows * widths[layer]));
      by_layer.push_back(drawn(rows * widths[layer]));
      by_kernel.push_back(drawn(inputs[layer] * widths[layer]));
      by_bias.push_back(drawn(widths[layer]));
    }
    tower.vectors = drawn(rows * kOutputs * kDimension);
    tower.inverse_norms = drawn(rows * kOutputs);
    const float* const gradient = drawn(rows * kOutputs * kDimension);
    Tower::Packed packed, gradients(3);
    tower.PackKernels(&packed);
    tower.Forward(packed, 0, rows);
    tower.PackTransposed(&packed);
    tower.Backward(packed, gradient, 0, rows, by_part, by_layer);
    for (int layer = 0; layer < 3; ++layer) tower.PackLayerGradient(layer, by_layer, &gradients);
    for (int64_t task = 0; task < tower.NumWeightTasks(); ++task) {
      tower.RunWeightTask(task, gradients, by_layer, by_kernel, by_bias);
    }
    for (int64_t vector = 0; vector < rows * kOutputs; ++vector) {
      const float* const unit = tower.vectors + vector * kDimension;
      EXPECT_NEAR(Dense().dot(unit, unit, kDimension), 1.0f, 1e-5f);
    }
  }
}

}  // namespace
}  // namespace dpsr
