// The encoder's gradient against finite differences of its forward pass, on several threads.

#include "ops_cc/core/encoder/transformer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

namespace dpsr {
namespace {

// Every second task on another thread.
void RunOnTwoThreads(int64_t tasks, const std::function<void(int64_t)>& task) {
  std::thread other([&] {
    for (int64_t i = 1; i < tasks; i += 2) task(i);
  });
  for (int64_t i = 0; i < tasks; i += 2) task(i);
  other.join();
}

// A model whose weights are one array, and where each of them begins.
class TransformerTest : public testing::TestWithParam<std::tuple<bool, bool>> {
 protected:
  static constexpr int64_t kWords = 11, kPositions = 90, kWidth = 9, kIntermediate = 7, kBlocks = 2;

  TransformerTest() {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    row_splits_ = {0, 5, 5, 6, 90, 93};
    for (int64_t row = 0; row < row_splits_.back(); ++row) tokens_.push_back(static_cast<int32_t>(random() % kWords));
    model_.width = kWidth;
    model_.heads = 3;
    model_.intermediate = kIntermediate;
    model_.activation = Activation::kGelu;
    model_.pre_norm = std::get<0>(GetParam());
    model_.epsilon = 1e-3f;
    model_.position_offset = 2;
    model_.dropout = Dropout{5, std::get<1>(GetParam()) ? 0.25f : 0.0f};
    model_.products = &Products(false);
    model_.sequences = static_cast<int64_t>(row_splits_.size()) - 1;
    model_.tokens = tokens_.data();
    model_.row_splits = row_splits_.data();
    model_.words = kWords;
    model_.positions = kPositions;
    Arrange<const float>(nullptr);
    weights_.resize(begins_.back());
    for (float& weight : weights_) weight = 0.5f * normal(random);
    model_.weights = Arrange<const float>(weights_.data());
    direction_.resize(model_.Rows() * kWidth);
    for (float& value : direction_) value = normal(random);
    saved_ = {model_.Rows(), kWidth, kIntermediate, kBlocks, nullptr};
    activations_.resize(saved_.Size());
    saved_.data = activations_.data();
  }

  // Pointers into an array of all weights.
  template <typename T>
  EncoderArrays<T> Arrange(T* data) {
    begins_ = {0};
    const auto next = [&](int64_t size) {
      begins_.push_back(begins_.back() + size);
      return data == nullptr ? nullptr : data + begins_[begins_.size() - 2];
    };
    EncoderArrays<T> arrays;
    arrays.words = next(kWords * kWidth);
    arrays.positions = next(kPositions * kWidth);
    for (T** vector : {&arrays.type_embedding, &arrays.embedding_scale, &arrays.embedding_offset}) {
      *vector = next(kWidth);
    }
    arrays.blocks.resize(kBlocks);
    for (BlockArrays<T>& block : arrays.blocks) {
      for (int layer = 0; layer < kDenseLayers; ++layer) {
        block.kernels[layer] = next(model_.Inputs(layer) * model_.Outputs(layer));
        block.biases[layer] = next(model_.Outputs(layer));
      }
      for (T** vector : {&block.attention_scale, &block.attention_offset, &block.output_scale, &block.output_offset}) {
        *vector = next(kWidth);
      }
    }
    return arrays;
  }

  // The product of the states with the direction.
  double Loss(const Activations& saved) {
    std::vector<float> hidden(model_.Rows() * kWidth);
    model_.Forward(RunOnTwoThreads, saved, &space_, hidden.data());
    double loss = 0.0;
    for (size_t i = 0; i < hidden.size(); ++i) loss += static_cast<double>(hidden[i]) * direction_[i];
    return loss;
  }

  std::vector<int32_t> tokens_;
  std::vector<int64_t> row_splits_, begins_;
  std::vector<float> weights_, direction_, activations_;
  Activations saved_;
  Transformer model_;
  Workspace space_;
};

TEST_P(TransformerTest, GradientIsFiniteDifferences) {
  const double loss = Loss(saved_);
  EXPECT_EQ(loss, Loss({model_.Rows(), kWidth, kIntermediate, kBlocks, nullptr}));
  std::vector<float> gradients(weights_.size(), NAN);
  model_.Backward(RunOnTwoThreads, saved_, direction_.data(), &space_, Arrange<float>(gradients.data()));
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (size_t weight = 0; weight + 1 < begins_.size(); ++weight) {
    // Along a direction of one weight.
    const std::vector<float> before = weights_;
    std::vector<float> step(weights_.size());
    double expected = 0.0, size = 0.0;
    for (int64_t i = begins_[weight]; i < begins_[weight + 1]; ++i) {
      step[i] = 1e-3f * normal(random);
      expected += static_cast<double>(step[i]) * gradients[i];
      size += static_cast<double>(step[i]) * step[i] * gradients[i] * gradients[i];
    }
    double difference = 0.0;
    for (const float sign : {1.0f, -1.0f}) {
      for (size_t i = 0; i < weights_.size(); ++i) weights_[i] = before[i] + sign * step[i];
      difference += sign * Loss(saved_) / 2.0;
    }
    weights_ = before;
    EXPECT_NEAR(difference, expected, 0.02 * std::sqrt(size) + 1e-4) << "weight " << weight;
  }
}

INSTANTIATE_TEST_SUITE_P(All, TransformerTest, testing::Combine(testing::Bool(), testing::Bool()),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param) ? "Pre" : "Post") +
                                  (std::get<1>(info.param) ? "Dropped" : "Whole");
                         });

}  // namespace
}  // namespace dpsr
