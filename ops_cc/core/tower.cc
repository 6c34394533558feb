#include "ops_cc/core/tower.h"

#include <algorithm>
#include <cmath>

namespace dpsr {
namespace {

// Rows that pass all layers together.
constexpr int64_t kBlockRows = 64;
// Inputs of a layer, below the first one, whose rows of the kernel's gradient are one task.
constexpr int64_t kTaskInputs = 64;
// As tf.math.l2_normalize: shorter vectors are not stretched to length 1.
constexpr float kLeastSquare = 1e-12f;

}  // namespace

int64_t Tower::RowCost() const {
  int64_t cost = 0;
  for (int64_t layer = 0; layer < Layers(); ++layer) cost += InputsOf(layer) * widths[layer];
  return cost;
}

void Tower::PackKernels(Packed* packed) const {
  packed->resize(Layers());
  for (int64_t layer = 0; layer < Layers(); ++layer) {
    Dense().pack({kernels[layer], widths[layer], 1}, InputsOf(layer), widths[layer], &(*packed)[layer]);
  }
}

void Tower::Forward(const Packed& packed, int64_t first, int64_t last) const {
  const DenseKernels& dense = Dense();
  for (int64_t start = first; start < last; start += kBlockRows) {
    const int64_t count = std::min(kBlockRows, last - start);
    for (int64_t layer = 0; layer < Layers(); ++layer) {
      const bool is_last = layer + 1 == Layers();
      const int64_t width = widths[layer];
      float* const output = (is_last ? vectors : hidden[layer]) + start * width;
      if (layer == 0) {
        for (size_t part = 0; part < parts.size(); ++part) {
          dense.multiply({parts[part] + start * dimension, dimension, 1}, count, packed[0], part * dimension, dimension,
                         part > 0, output, width);
        }
      } else {
        const int64_t inputs = widths[layer - 1];
        dense.multiply({hidden[layer - 1] + start * inputs, inputs, 1}, count, packed[layer], 0, inputs, false, output,
                       width);
      }
      dense.add_bias(biases[layer], count, width, !is_last, output);
    }
    for (int64_t row = start; row < start + count; ++row) {
      for (int64_t head = 0; head < outputs; ++head) {
        float* const vector = vectors + (row * outputs + head) * dimension;
        if (residual) {
          for (const float* part : parts) dense.add_scaled(1.0f, part + row * dimension, dimension, vector);
        }
        const float square = dense.dot(vector, vector, dimension);
        // Not std::max, which would take the constant for what is no number.
        const float scale = 1.0f / std::sqrt(square < kLeastSquare ? kLeastSquare : square);
        for (int64_t i = 0; i < dimension; ++i) vector[i] *= scale;
        inverse_norms[row * outputs + head] = scale;
      }
    }
  }
}

void Tower::PackTransposed(Packed* packed) const {
  // Those of the first layer by parts, then the other layers'.
  packed->resize(parts.size() + Layers() - 1);
  for (size_t part = 0; part < parts.size(); ++part) {
    const int64_t width = widths[0];
    Dense().pack({kernels[0] + part * dimension * width, 1, width}, width, dimension, &(*packed)[part]);
  }
  for (int64_t layer = 1; layer < Layers(); ++layer) {
    const int64_t width = widths[layer];
    Dense().pack({kernels[layer], 1, width}, width, InputsOf(layer), &(*packed)[parts.size() + layer - 1]);
  }
}

void Tower::Backward(const Packed& packed, const float* gradient, int64_t first, int64_t last,
                     const std::vector<float*>& part_gradients, const std::vector<float*>& layer_gradients) const {
  const DenseKernels& dense = Dense();
  const float shortest = 1.0f / std::sqrt(kLeastSquare);
  for (int64_t start = first; start < last; start += kBlockRows) {
    const int64_t count = std::min(kBlockRows, last - start);
    for (int64_t vector = start * outputs; vector < (start + count) * outputs; ++vector) {
      const float* const unit = vectors + vector * dimension;
      const float* const by_unit = gradient + vector * dimension;
      float* const by_output = layer_gradients.back() + vector * dimension;
      const float scale = inverse_norms[vector];
      const float along = scale < shortest ? dense.dot(unit, by_unit, dimension) : 0.0f;
      for (int64_t i = 0; i < dimension; ++i) by_output[i] = scale * (by_unit[i] - along * unit[i]);
    }
    for (int64_t layer = Layers() - 1; layer > 0; --layer) {
      const int64_t width = widths[layer], inputs = widths[layer - 1];
      float* const by_inputs = layer_gradients[layer - 1] + start * inputs;
      dense.multiply({layer_gradients[layer] + start * width, width, 1}, count, packed[parts.size() + layer - 1], 0,
                     width, false, by_inputs, inputs);
      dense.relu_gradient(hidden[layer - 1] + start * inputs, count * inputs, by_inputs);
    }
    for (size_t part = 0; part < parts.size(); ++part) {
      float* const by_part = part_gradients[part] + start * dimension;
      dense.multiply({layer_gradients[0] + start * widths[0], widths[0], 1}, count, packed[part], 0, widths[0], false,
                     by_part, dimension);
      if (!residual) continue;
      for (int64_t i = 0; i < count * outputs; ++i) {
        dense.add_scaled(1.0f, layer_gradients.back() + (start * outputs + i) * dimension, dimension,
                         by_part + i / outputs * dimension);
      }
    }
  }
}

int64_t Tower::NumWeightTasks() const {
  int64_t tasks = static_cast<int64_t>(parts.size());
  for (int64_t layer = 1; layer < Layers(); ++layer) tasks += (InputsOf(layer) + kTaskInputs - 1) / kTaskInputs;
  return tasks;
}

void Tower::PackLayerGradient(int64_t layer, const std::vector<float*>& layer_gradients, Packed* packed) const {
  Dense().pack({layer_gradients[layer], widths[layer], 1}, rows, widths[layer], &(*packed)[layer]);
}

void Tower::RunWeightTask(int64_t task, const Packed& packed, const std::vector<float*>& layer_gradients,
                          const std::vector<float*>& kernel_gradients,
                          const std::vector<float*>& bias_gradients) const {
  // A task is some inputs of a layer; the first one of a layer sums the bias's gradient too.
  int64_t layer = 0, first = task * dimension, count = dimension;
  const float* inputs = nullptr;
  int64_t stride = dimension;
  if (task < static_cast<int64_t>(parts.size())) {
    inputs = parts[task];
  } else {
    task -= static_cast<int64_t>(parts.size());
    for (layer = 1; task >= (InputsOf(layer) + kTaskInputs - 1) / kTaskInputs; ++layer) {
      task -= (InputsOf(layer) + kTaskInputs - 1) / kTaskInputs;
    }
    first = task * kTaskInputs;
    count = std::min(kTaskInputs, InputsOf(layer) - first);
    stride = InputsOf(layer);
    inputs = hidden[layer - 1] + first;
  }
  const int64_t width = widths[layer];
  Dense().multiply({inputs, 1, stride}, count, packed[layer], 0, rows, false, kernel_gradients[layer] + first * width,
                   width);
  if (first > 0) return;
  std::fill(bias_gradients[layer], bias_gradients[layer] + width, 0.0f);
  for (int64_t row = 0; row < rows; ++row) {
    Dense().add_scaled(1.0f, layer_gradients[layer] + row * width, width, bias_gradients[layer]);
  }
}

}  // namespace dpsr
