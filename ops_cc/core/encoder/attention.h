// Attention of the tokens of one sequence to each other, and its gradient.

#ifndef DPSR_OPS_CC_CORE_ENCODER_ATTENTION_H_
#define DPSR_OPS_CC_CORE_ENCODER_ATTENTION_H_

#include <cstdint>

#include "ops_cc/core/dense.h"
#include "ops_cc/core/encoder/kernels.h"

namespace dpsr {

// Memory of one thread, kept between calls.
struct AttentionSpace {
  PackedMatrix packed;
  Floats probabilities, dropped, gradient;
};

// A sequence of n tokens; `heads` is a divisor of `width`.
struct Attention {
  int64_t width;  // H
  int64_t heads;
  int64_t length;     // n
  const float* qkv;   // [n, 3H], queries, keys and values, each by heads
  Dropout dropout;    // of the probabilities
  int64_t first_row;  // of the sequence in its batch: what is dropped depends on it

  // context [n, H] = softmax(queries keys^T / sqrt(H / heads)) values, by heads.
  void Forward(AttentionSpace* space, float* context) const;
  // From the gradient by the context to that by queries, keys and values [n, 3H].
  void Backward(const float* by_context, AttentionSpace* space, float* by_qkv) const;

 private:
  int64_t Depth() const { return width / heads; }
  int64_t Stride() const { return PaddedToLanes(length); }
  void Probabilities(int64_t head, AttentionSpace* space) const;
  const float* Dropped(int64_t head, AttentionSpace* space) const;
};

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_ENCODER_ATTENTION_H_
