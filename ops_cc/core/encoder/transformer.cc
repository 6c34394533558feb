#include "ops_cc/core/encoder/transformer.h"

#include <algorithm>

namespace dpsr {
namespace {

// Rows of a strand, unless its last sequence has more: enough for a product to read the weights once for many of them.
constexpr int64_t kStrandRows = 64;
// Panels that one task packs.
constexpr int64_t kTaskPanels = 4;

}  // namespace

std::vector<Strand> Transformer::Strands() const {
  std::vector<Strand> strands;
  for (int64_t sequence = 0; sequence < sequences; ++sequence) {
    const int64_t rows = row_splits[sequence + 1] - row_splits[sequence];
    if (strands.empty() || strands.back().Rows() + rows > kStrandRows) {
      strands.push_back({sequence, sequence, row_splits[sequence], row_splits[sequence]});
    }
    strands.back().last_sequence = sequence + 1;
    strands.back().last_row = row_splits[sequence + 1];
  }
  return strands;
}

int64_t Transformer::PackedSize(int layer, bool transposed) const {
  const int64_t depth = transposed ? Outputs(layer) : Inputs(layer);
  const int64_t columns = transposed ? Inputs(layer) : Outputs(layer);
  return products->PanelsSize(products->UnitsOf(depth), columns);
}

void Transformer::PackKernels(const RunTasks& run, int64_t block, bool transposed,
                              const std::array<float*, kDenseLayers>& packed) const {
  struct Task {
    int layer;
    int64_t first, last;
  };
  std::vector<Task> tasks;
  for (int layer = 0; layer < kDenseLayers; ++layer) {
    const int64_t columns = transposed ? Inputs(layer) : Outputs(layer), step = kTaskPanels * products->panel_columns;
    for (int64_t first = 0; first < columns; first += step) {
      tasks.push_back({layer, first, std::min(columns, first + step)});
    }
  }
  run(static_cast<int64_t>(tasks.size()), [&](int64_t number) {
    const Task& task = tasks[number];
    const int64_t inputs = Inputs(task.layer), outputs = Outputs(task.layer), columns = task.last - task.first;
    const int64_t units = products->UnitsOf(transposed ? outputs : inputs);
    const float* const kernel = weights.blocks[block].kernels[task.layer];
    float* const panels = packed[task.layer] + task.first * units;
    if (transposed) {
      products->pack_transposed(kernel + task.first * outputs, columns, outputs, outputs, panels);
    } else {
      products->pack_right(kernel + task.first, inputs, columns, outputs, 0, units, panels);
    }
  });
}

const float* Transformer::Units(const float* values, int64_t rows, int64_t depth, float* units) const {
  if (products->numbers == 1) return values;
  products->round(values, rows, depth, depth, units);
  return units;
}

void Transformer::Normalize(const float* input, int64_t norm, int64_t first, int64_t rows, float* output) const {
  Encoder().layer_norm(input, rows, width, Scale(weights, norm), Offset(weights, norm), epsilon, output);
  if (DropsNorm(norm)) Encoder().drop(EmbeddingDropout(), first, output, rows, width, output);
}

}  // namespace dpsr
