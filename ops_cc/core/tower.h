// A tower from its embedded inputs to unit vectors, and its gradient: a few rows pass all layers while they are in the
// cache, and the inputs are never concatenated.

#ifndef DPSR_OPS_CC_CORE_TOWER_H_
#define DPSR_OPS_CC_CORE_TOWER_H_

#include <cstdint>
#include <vector>

#include "ops_cc/core/dense.h"

namespace dpsr {

// Hidden ReLU layers, a linear layer of `outputs` vectors, to each of which the sum of the parts is added if
// `residual`, and their division by their norms. The input of the first layer are the parts beside each other.
struct Tower {
  int64_t rows;       // B
  int64_t dimension;  // d
  int64_t outputs;    // m
  bool residual;
  std::vector<const float*> parts;    // [B, d] each
  std::vector<int64_t> widths;        // of every layer; the last is m * d
  std::vector<const float*> kernels;  // [inputs, width] of every layer
  std::vector<const float*> biases;   // [width] of every layer; not read by the gradient

  // What Forward leaves, and the gradient reads.
  std::vector<float*> hidden;  // [B, width] of every layer but the last
  float* vectors;              // [B, m, d]
  float* inverse_norms;        // [B, m]

  int64_t Layers() const { return static_cast<int64_t>(widths.size()); }
  int64_t InputsOf(int64_t layer) const {
    return layer == 0 ? static_cast<int64_t>(parts.size()) * dimension : widths[layer - 1];
  }
  // Multiply-adds of a row, forward.
  int64_t RowCost() const;

  using Packed = std::vector<PackedMatrix>;

  // The kernels as Forward reads them.
  void PackKernels(Packed* packed) const;
  // Rows `first` to `last`, in any order of calls.
  void Forward(const Packed& packed, int64_t first, int64_t last) const;

  // The kernels as Backward reads them.
  void PackTransposed(Packed* packed) const;
  // From the gradient by `vectors` to those by the parts and by what every layer puts out before its ReLU,
  // layer_gradients [B, width]; rows `first` to `last`.
  void Backward(const Packed& packed, const float* gradient, int64_t first, int64_t last,
                const std::vector<float*>& part_gradients, const std::vector<float*>& layer_gradients) const;

  // The gradients by kernels and biases fall into tasks, after every row's Backward.
  int64_t NumWeightTasks() const;
  void PackLayerGradient(int64_t layer, const std::vector<float*>& layer_gradients, Packed* packed) const;
  void RunWeightTask(int64_t task, const Packed& packed, const std::vector<float*>& layer_gradients,
                     const std::vector<float*>& kernel_gradients, const std::vector<float*>& bias_gradients) const;
};

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_TOWER_H_
