#include "ops_cc/core/encoder/attention.h"

#include <cmath>

namespace dpsr {
namespace {

void Grow(Floats* floats, int64_t size) {
  if (static_cast<int64_t>(floats->size()) < size) floats->resize(size);
}

}  // namespace

void Attention::Probabilities(int64_t head, AttentionSpace* space) const {
  const DenseKernels& dense = Dense();
  const int64_t depth = Depth(), stride = Stride(), row = 3 * width;
  Grow(&space->probabilities, length * stride);
  dense.pack({qkv + width + head * depth, 1, row}, depth, length, &space->packed);
  dense.multiply({qkv + head * depth, row, 1}, length, space->packed, 0, depth, false, space->probabilities.data(),
                 stride);
  Encoder().softmax(space->probabilities.data(), length, length, stride, 1.0f / std::sqrt(static_cast<float>(depth)));
}

const float* Attention::Dropped(int64_t head, AttentionSpace* space) const {
  if (dropout.rate == 0.0f) return space->probabilities.data();
  Grow(&space->dropped, length * Stride());
  Encoder().drop(dropout.Of(head), first_row, space->probabilities.data(), length, Stride(), space->dropped.data());
  return space->dropped.data();
}

void Attention::Forward(AttentionSpace* space, float* context) const {
  const DenseKernels& dense = Dense();
  const int64_t depth = Depth(), row = 3 * width;
  for (int64_t head = 0; head < heads; ++head) {
    Probabilities(head, space);
    const float* const weights = Dropped(head, space);
    dense.pack({qkv + 2 * width + head * depth, row, 1}, length, depth, &space->packed);
    dense.multiply({weights, Stride(), 1}, length, space->packed, 0, length, false, context + head * depth, width);
  }
}

void Attention::Backward(const float* by_context, AttentionSpace* space, float* by_qkv) const {
  const DenseKernels& dense = Dense();
  const int64_t depth = Depth(), stride = Stride(), row = 3 * width;
  Grow(&space->gradient, length * stride);
  float* const gradient = space->gradient.data();
  for (int64_t head = 0; head < heads; ++head) {
    const float *const queries = qkv + head * depth, *const keys = queries + width, *const values = keys + width;
    float *const by_queries = by_qkv + head * depth, *const by_keys = by_queries + width;
    const float* const by_head = by_context + head * depth;
    Probabilities(head, space);
    const float* const weights = Dropped(head, space);
    // By the values: weights^T by_context; by the weights: by_context values^T.
    dense.pack({by_head, width, 1}, length, depth, &space->packed);
    dense.multiply({weights, 1, stride}, length, space->packed, 0, length, false, by_keys + width, row);
    dense.pack({values, 1, row}, depth, length, &space->packed);
    dense.multiply({by_head, width, 1}, length, space->packed, 0, depth, false, gradient, stride);
    for (int64_t i = 0; i < length; ++i) std::fill(gradient + i * stride + length, gradient + (i + 1) * stride, 0.0f);
    if (dropout.rate > 0.0f) Encoder().drop(dropout.Of(head), first_row, gradient, length, stride, gradient);
    Encoder().softmax_gradient(space->probabilities.data(), length, stride, 1.0f / std::sqrt(static_cast<float>(depth)),
                               gradient);
    // By the queries: by_scores keys; by the keys: by_scores^T queries.
    dense.pack({keys, row, 1}, length, depth, &space->packed);
    dense.multiply({gradient, stride, 1}, length, space->packed, 0, length, false, by_queries, row);
    dense.pack({queries, row, 1}, length, depth, &space->packed);
    dense.multiply({gradient, 1, stride}, length, space->packed, 0, length, false, by_keys, row);
  }
}

}  // namespace dpsr
