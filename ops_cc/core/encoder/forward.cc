#include <algorithm>
#include <cstring>

#include "ops_cc/core/encoder/attention.h"
#include "ops_cc/core/encoder/transformer.h"

namespace dpsr {
namespace {

// Rows that pass all blocks together where nothing is kept for a gradient.
constexpr int64_t kGroupRows = 4096;

enum Use { kPackedKernels, kGroup = kDenseLayers };             // of the workspace of a call
enum StrandUse { kNormed, kUnits, kActivated, kMiddleNormed };  // of that of a thread

// Arrays of one block; row `first_row` of the batch is the first of them.
struct BlockStates {
  int64_t first_row;
  float *input, *qkv, *context, *middle, *intermediate, *output;
};

class ForwardPass {
 public:
  ForwardPass(const Transformer& model, const RunTasks& run, Workspace* space) : model_(model), run_(run) {
    for (int layer = 0; layer < kDenseLayers; ++layer) {
      packed_[layer] = space->Get(kPackedKernels + layer, model.PackedSize(layer, false));
    }
  }

  // Some strands through all blocks.
  void Run(const std::vector<Strand>& strands, const std::function<BlockStates(int64_t)>& states, float* hidden) const {
    const int64_t tasks = static_cast<int64_t>(strands.size()), width = model_.width, blocks = model_.Blocks();
    const BlockStates first = states(0);
    run_(tasks, [&](int64_t task) {
      Embed(strands[task], first.input + (strands[task].first_row - first.first_row) * width);
    });
    for (int64_t block = 0; block < blocks; ++block) {
      model_.PackKernels(run_, block, false, packed_);
      const BlockStates of_block = states(block);
      run_(tasks, [&](int64_t task) { RunBlock(block, strands[task], of_block); });
    }
    const float* const last = states(blocks).input;
    run_(tasks, [&](int64_t task) {
      const int64_t row = strands[task].first_row;
      model_.Normalize(last + (row - first.first_row) * width, 2 * blocks, row, strands[task].Rows(),
                       hidden + row * width);
    });
  }

 private:
  void Embed(const Strand& strand, float* sums) const {
    const EncoderKernels& kernels = Encoder();
    const int64_t width = model_.width;
    float* sum = sums;
    for (int64_t sequence = strand.first_sequence; sequence < strand.last_sequence; ++sequence) {
      const int64_t begin = model_.row_splits[sequence], end = model_.row_splits[sequence + 1];
      for (int64_t row = begin; row < end; ++row, sum += width) {
        std::memcpy(sum, model_.weights.words + model_.tokens[row] * width, width * sizeof(float));
        kernels.add(model_.weights.positions + (row - begin + model_.position_offset) * width, width, sum);
        kernels.add(model_.weights.type_embedding, width, sum);
      }
    }
    if (model_.pre_norm && model_.dropout.rate > 0.0f) {
      kernels.drop(model_.EmbeddingDropout(), strand.first_row, sums, strand.Rows(), width, sums);
    }
  }

  // output = values kernel + bias, for rows `row` and on.
  void Apply(int64_t block, int layer, const float* values, int64_t rows, float* units, float* output) const {
    const int64_t inputs = model_.Inputs(layer), outputs = model_.Outputs(layer);
    model_.products->multiply_rows(model_.Units(values, rows, inputs, units), rows, model_.products->UnitsOf(inputs),
                                   packed_[layer], outputs, model_.weights.blocks[block].biases[layer], output,
                                   outputs);
  }

  // The same, dropped and added to the residual.
  void AddResidual(int64_t block, int layer, const float* values, int64_t row, int64_t rows, const float* residual,
                   float* units, float* sum) const {
    Apply(block, layer, values, rows, units, sum);
    if (model_.dropout.rate > 0.0f) {
      Encoder().drop(model_.OutputDropout(block, layer), row, sum, rows, model_.width, sum);
    }
    Encoder().add(residual, rows * model_.width, sum);
  }

  void RunBlock(int64_t block, const Strand& strand, const BlockStates& states) const {
    thread_local Workspace space;
    thread_local AttentionSpace attention_space;
    constexpr int64_t kRows = Transformer::kBlockRows;
    const int64_t width = model_.width, intermediate = model_.intermediate;
    float* const normed = space.Get(kNormed, strand.Rows() * width);
    float* const units = space.Get(kUnits, kRows * std::max(width, intermediate));
    float* const activated = space.Get(kActivated, kRows * intermediate);
    float* const middle_normed = space.Get(kMiddleNormed, kRows * width);
    for (int64_t row = strand.first_row; row < strand.last_row; row += kRows) {
      const int64_t rows = std::min(kRows, strand.last_row - row), at = row - states.first_row;
      float* const of_rows = normed + (row - strand.first_row) * width;
      model_.Normalize(states.input + at * width, 2 * block, row, rows, of_rows);
      Apply(block, kQkv, of_rows, rows, units, states.qkv + at * 3 * width);
    }
    for (int64_t sequence = strand.first_sequence; sequence < strand.last_sequence; ++sequence) {
      const int64_t row = model_.row_splits[sequence], at = row - states.first_row;
      const Attention attention{width,
                                model_.heads,
                                model_.row_splits[sequence + 1] - row,
                                states.qkv + at * 3 * width,
                                model_.ProbabilityDropout(block),
                                row};
      if (attention.length > 0) attention.Forward(&attention_space, states.context + at * width);
    }
    for (int64_t row = strand.first_row; row < strand.last_row; row += kRows) {
      const int64_t rows = std::min(kRows, strand.last_row - row), at = row - states.first_row;
      float *const middle = states.middle + at * width, *const inner = states.intermediate + at * intermediate;
      const float* const residual =
          model_.pre_norm ? states.input + at * width : normed + (row - strand.first_row) * width;
      AddResidual(block, kAttentionOutput, states.context + at * width, row, rows, residual, units, middle);
      model_.Normalize(middle, 2 * block + 1, row, rows, middle_normed);
      Apply(block, kIntermediate, middle_normed, rows, units, inner);
      Encoder().activate(model_.activation, inner, rows * intermediate, activated);
      AddResidual(block, kOutput, activated, row, rows, model_.pre_norm ? middle : middle_normed, units,
                  states.output + at * width);
    }
  }

  const Transformer& model_;
  const RunTasks& run_;
  std::array<float*, kDenseLayers> packed_;
};

}  // namespace

void Transformer::Forward(const RunTasks& run, const Activations& saved, Workspace* space, float* hidden) const {
  const ForwardPass pass(*this, run, space);
  const std::vector<Strand> strands = Strands();
  if (saved.data != nullptr) {
    const auto states = [&](int64_t block) {
      return BlockStates{0,
                         saved.Sum(2 * block),
                         saved.Qkv(block),
                         saved.Context(block),
                         saved.Sum(2 * block + 1),
                         saved.Intermediate(block),
                         saved.Sum(2 * block + 2)};
    };
    return pass.Run(strands, states, hidden);
  }
  for (size_t first = 0, last = 0; first < strands.size(); first = last) {
    const int64_t row = strands[first].first_row;
    while (last < strands.size() && (last == first || strands[last].last_row - row <= kGroupRows)) ++last;
    const int64_t rows = strands[last - 1].last_row - row;
    // The output of a block lies where the input of the next one is looked for.
    float* const sums = space->Get(kGroup, rows * (7 * width + intermediate));
    float *const qkv = sums + 3 * rows * width, *const inner = qkv + 4 * rows * width;
    const auto states = [&](int64_t block) {
      const auto sum = [&](int64_t i) { return sums + i % 3 * rows * width; };
      return BlockStates{row,   sum(2 * block),    qkv, qkv + 3 * rows * width, sum(2 * block + 1),
                         inner, sum(2 * block + 2)};
    };
    pass.Run({strands.begin() + first, strands.begin() + last}, states, hidden);
  }
}

}  // namespace dpsr
