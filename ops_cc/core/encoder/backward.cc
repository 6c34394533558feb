#include <algorithm>
#include <cstring>
#include <numeric>

#include "ops_cc/core/encoder/attention.h"
#include "ops_cc/core/encoder/transformer.h"

namespace dpsr {
namespace {

// Rows whose part of the gradients by weights is summed at once, while it is in the cache.
constexpr int64_t kChunkRows = 1024;
// Tiles of a kernel's inputs that are one task, and rows of the embedding tables.
constexpr int64_t kTaskTiles = 8;
constexpr int64_t kTaskWords = 1024, kTaskPositions = 16;

// Of the workspace of a call, and of that of a thread. Each layer has one of the first three.
enum Use { kPackedKernels, kPackedInputs = 4, kPackedGradients = 8, kByStates = 12, kPartials };
enum StrandUse { kByOutput, kUnits, kByIntermediate, kActivated, kNormed, kByNormed, kByContext, kByQkv };

void Zero(float* values, int64_t size) { std::memset(values, 0, size * sizeof(float)); }

// Columns of the partial sums of a strand: gradients by biases, and by scale and offset of both norms.
struct PartialColumns {
  explicit PartialColumns(const Transformer& model) {
    for (int layer = 0; layer < kDenseLayers; ++layer) {
      biases[layer] = total;
      total += model.Outputs(layer);
    }
    for (int64_t norm = 0; norm < 2; ++norm) {
      scales[norm] = total;
      offsets[norm] = total + model.width;
      total += 2 * model.width;
    }
  }
  int64_t biases[kDenseLayers], scales[2], offsets[2], total = 0;
};

class BackwardPass {
 public:
  BackwardPass(const Transformer& model, const RunTasks& run, const Activations& saved, Workspace* space,
               const EncoderArrays<float>& gradients)
      : model_(model),
        run_(run),
        saved_(saved),
        space_(space),
        gradients_(gradients),
        strands_(model.Strands()),
        columns_(model),
        by_states_(space->Get(kByStates, model.Rows() * model.width)) {
    for (int layer = 0; layer < kDenseLayers; ++layer) {
      packed_[layer] = space->Get(kPackedKernels + layer, model.PackedSize(layer, true));
    }
  }

  void Run(const float* by_hidden) {
    LastNorm(by_hidden);
    for (int64_t block = model_.Blocks() - 1; block >= 0; --block) {
      model_.PackKernels(run_, block, true, packed_);
      for (size_t first = 0; first < strands_.size(); first = last_) {
        BeginChunk(first);
        run_(static_cast<int64_t>(last_ - first),
             [&](int64_t task) { RunStrand(block, first + task, partials_ + task * columns_.total); });
        SumWeights(block, first > 0);
      }
    }
    Embeddings();
  }

 private:
  // The strands of a chunk, and where their rows lie in the packed sides.
  void BeginChunk(size_t first) {
    first_units_.assign(strands_.size(), 0);
    units_ = 0;
    for (last_ = first; last_ < strands_.size(); ++last_) {
      if (last_ > first && strands_[last_].last_row - strands_[first].first_row > kChunkRows) break;
      first_units_[last_] = units_;
      units_ += model_.products->UnitsOf(strands_[last_].Rows());
    }
    for (int layer = 0; layer < kDenseLayers; ++layer) {
      inputs_[layer] = space_->Get(kPackedInputs + layer, model_.products->TilesSize(units_, model_.Inputs(layer)));
      outputs_[layer] =
          space_->Get(kPackedGradients + layer, model_.products->PanelsSize(units_, model_.Outputs(layer)));
    }
    chunk_strands_ = static_cast<int64_t>(last_ - first);
    partials_ = space_->Get(kPartials, chunk_strands_ * columns_.total);
  }

  void LastNorm(const float* by_hidden) {
    const int64_t width = model_.width, norm = 2 * model_.Blocks(), tasks = static_cast<int64_t>(strands_.size());
    float* const partials = space_->Get(kPartials, tasks * 2 * width);
    run_(tasks, [&](int64_t task) {
      const Strand& strand = strands_[task];
      float* const of_strand = partials + task * 2 * width;
      Zero(of_strand, 2 * width);
      thread_local Workspace space;
      const float* by_normed = by_hidden + strand.first_row * width;
      if (model_.DropsNorm(norm)) {
        float* const dropped = space.Get(kByNormed, strand.Rows() * width);
        Encoder().drop(model_.EmbeddingDropout(), strand.first_row, by_normed, strand.Rows(), width, dropped);
        by_normed = dropped;
      }
      Zero(by_states_ + strand.first_row * width, strand.Rows() * width);
      NormGradient(norm, strand.first_row, strand.Rows(), by_normed, of_strand, of_strand + width);
    });
    float *const scale = model_.Scale(gradients_, norm), *const offset = model_.Offset(gradients_, norm);
    Zero(scale, width);
    Zero(offset, width);
    for (int64_t task = 0; task < tasks; ++task) {
      Encoder().add(partials + task * 2 * width, width, scale);
      Encoder().add(partials + task * 2 * width + width, width, offset);
    }
  }

  // Adds the gradient by the input of a norm to that by the states.
  void NormGradient(int64_t norm, int64_t row, int64_t rows, const float* by_normed, float* by_scale,
                    float* by_offset) const {
    Encoder().layer_norm_gradient(saved_.Sum(norm) + row * model_.width, by_normed, rows, model_.width,
                                  model_.Scale(model_.weights, norm), model_.epsilon, by_states_ + row * model_.width,
                                  by_scale, by_offset);
  }

  // Keeps rows of the gradient by what a layer puts out, and of its input, for the gradient by its kernel; sums that by
  // its bias.
  void KeepOutputs(int layer, int64_t unit, const float* by_outputs, int64_t rows, float* partials) const {
    const int64_t outputs = model_.Outputs(layer);
    model_.products->pack_right(by_outputs, rows, outputs, outputs, unit, units_, outputs_[layer]);
    for (int64_t row = 0; row < rows; ++row) {
      Encoder().add(by_outputs + row * outputs, outputs, partials + columns_.biases[layer]);
    }
  }
  void KeepInputs(int layer, int64_t unit, const float* inputs, int64_t rows) const {
    const int64_t columns = model_.Inputs(layer);
    model_.products->pack_left(inputs, rows, columns, columns, unit, units_, inputs_[layer]);
  }
  // by_inputs = by_outputs kernel^T.
  void ByInputs(int layer, const float* by_outputs, int64_t rows, float* units, float* by_inputs) const {
    const int64_t outputs = model_.Outputs(layer), inputs = model_.Inputs(layer);
    model_.products->multiply_rows(model_.Units(by_outputs, rows, outputs, units), rows,
                                   model_.products->UnitsOf(outputs), packed_[layer], inputs, nullptr, by_inputs,
                                   inputs);
  }
  // The gradient by the states as that by the output of a layer, before its dropout.
  const float* ByOutput(int64_t block, int layer, int64_t row, int64_t rows, float* dropped) const {
    const float* const by_states = by_states_ + row * model_.width;
    if (model_.dropout.rate == 0.0f) return by_states;
    Encoder().drop(model_.OutputDropout(block, layer), row, by_states, rows, model_.width, dropped);
    return dropped;
  }
  // From the gradient by a norm's output, to which that of the residual belongs in post-LN, to the states before it.
  void ThroughNorm(int64_t norm, int64_t row, int64_t rows, float* by_normed, float* partials) const {
    const int64_t width = model_.width;
    float* const by_states = by_states_ + row * width;
    if (!model_.pre_norm) {
      Encoder().add(by_states, rows * width, by_normed);
      Zero(by_states, rows * width);
    }
    if (model_.DropsNorm(norm)) {
      Encoder().drop(model_.EmbeddingDropout(), row, by_normed, rows, width, by_normed);
    }
    NormGradient(norm, row, rows, by_normed, partials + columns_.scales[norm % 2],
                 partials + columns_.offsets[norm % 2]);
  }

  void RunStrand(int64_t block, size_t number, float* partials) const {
    thread_local Workspace space;
    const Strand& strand = strands_[number];
    Zero(partials, columns_.total);
    float* const by_context = space.Get(kByContext, strand.Rows() * model_.width);
    float* const by_qkv = space.Get(kByQkv, strand.Rows() * 3 * model_.width);
    constexpr int64_t kRows = Transformer::kBlockRows;
    for (int64_t at = 0; at < strand.Rows(); at += kRows) {
      FeedForward(block, strand.first_row + at, std::min(kRows, strand.Rows() - at),
                  first_units_[number] + at / model_.products->numbers, &space, by_context + at * model_.width,
                  partials);
    }
    Attend(block, strand, by_context, by_qkv);
    for (int64_t at = 0; at < strand.Rows(); at += kRows) {
      ProjectQkv(block, strand.first_row + at, std::min(kRows, strand.Rows() - at),
                 first_units_[number] + at / model_.products->numbers, by_qkv + at * 3 * model_.width, &space,
                 partials);
    }
  }

  // From the output of a block to the context of its attention.
  void FeedForward(int64_t block, int64_t row, int64_t rows, int64_t unit, Workspace* space, float* by_context,
                   float* partials) const {
    const int64_t width = model_.width, intermediate = model_.intermediate;
    float* const dropped = space->Get(kByOutput, rows * width);
    float* const units = space->Get(kUnits, rows * std::max(3 * width, intermediate));
    float* const by_intermediate = space->Get(kByIntermediate, rows * intermediate);
    float* const activated = space->Get(kActivated, rows * intermediate);
    float *const normed = space->Get(kNormed, rows * width), *const by_normed = space->Get(kByNormed, rows * width);

    const float* by_output = ByOutput(block, kOutput, row, rows, dropped);
    KeepOutputs(kOutput, unit, by_output, rows, partials);
    ByInputs(kOutput, by_output, rows, units, by_intermediate);
    Encoder().activation_gradient(model_.activation, saved_.Intermediate(block) + row * intermediate,
                                  rows * intermediate, activated, by_intermediate);
    KeepInputs(kOutput, unit, activated, rows);
    KeepOutputs(kIntermediate, unit, by_intermediate, rows, partials);
    ByInputs(kIntermediate, by_intermediate, rows, units, by_normed);
    model_.Normalize(saved_.Sum(2 * block + 1) + row * width, 2 * block + 1, row, rows, normed);
    KeepInputs(kIntermediate, unit, normed, rows);
    ThroughNorm(2 * block + 1, row, rows, by_normed, partials);

    by_output = ByOutput(block, kAttentionOutput, row, rows, dropped);
    KeepOutputs(kAttentionOutput, unit, by_output, rows, partials);
    KeepInputs(kAttentionOutput, unit, saved_.Context(block) + row * width, rows);
    ByInputs(kAttentionOutput, by_output, rows, units, by_context);
  }

  void Attend(int64_t block, const Strand& strand, const float* by_context, float* by_qkv) const {
    thread_local AttentionSpace space;
    const int64_t width = model_.width;
    for (int64_t sequence = strand.first_sequence; sequence < strand.last_sequence; ++sequence) {
      const int64_t row = model_.row_splits[sequence], at = row - strand.first_row;
      const Attention attention{width,
                                model_.heads,
                                model_.row_splits[sequence + 1] - row,
                                saved_.Qkv(block) + row * 3 * width,
                                model_.ProbabilityDropout(block),
                                row};
      if (attention.length > 0) attention.Backward(by_context + at * width, &space, by_qkv + at * 3 * width);
    }
  }

  void ProjectQkv(int64_t block, int64_t row, int64_t rows, int64_t unit, const float* by_qkv, Workspace* space,
                  float* partials) const {
    const int64_t width = model_.width;
    float* const units = space->Get(kUnits, rows * std::max(3 * width, model_.intermediate));
    float *const normed = space->Get(kNormed, rows * width), *const by_normed = space->Get(kByNormed, rows * width);
    KeepOutputs(kQkv, unit, by_qkv, rows, partials);
    model_.Normalize(saved_.Sum(2 * block) + row * width, 2 * block, row, rows, normed);
    KeepInputs(kQkv, unit, normed, rows);
    ByInputs(kQkv, by_qkv, rows, units, by_normed);
    ThroughNorm(2 * block, row, rows, by_normed, partials);
  }

  // The chunk's part of the gradients by the weights of a block.
  void SumWeights(int64_t block, bool accumulate) const {
    struct Task {
      int layer;
      int64_t first;
    };
    const int64_t step = kTaskTiles * model_.products->tile_rows;
    std::vector<Task> tasks;
    for (int layer = kDenseLayers - 1; layer >= 0; --layer) {
      for (int64_t first = 0; first < model_.Inputs(layer); first += step) tasks.push_back({layer, first});
    }
    run_(static_cast<int64_t>(tasks.size()) + 1, [&](int64_t number) {
      if (number == static_cast<int64_t>(tasks.size())) return SumPartials(block, accumulate);
      const auto& [layer, first] = tasks[number];
      const int64_t outputs = model_.Outputs(layer);
      model_.products->multiply_tiles(inputs_[layer] + first * units_, std::min(step, model_.Inputs(layer) - first),
                                      units_, outputs_[layer], outputs, accumulate,
                                      gradients_.blocks[block].kernels[layer] + first * outputs, outputs);
    });
  }

  void SumPartials(int64_t block, bool accumulate) const {
    const auto sum = [&](int64_t column, int64_t size, float* gradient) {
      if (!accumulate) Zero(gradient, size);
      for (int64_t strand = 0; strand < chunk_strands_; ++strand) {
        Encoder().add(partials_ + strand * columns_.total + column, size, gradient);
      }
    };
    for (int layer = 0; layer < kDenseLayers; ++layer) {
      sum(columns_.biases[layer], model_.Outputs(layer), gradients_.blocks[block].biases[layer]);
    }
    for (int64_t norm = 0; norm < 2; ++norm) {
      sum(columns_.scales[norm], model_.width, model_.Scale(gradients_, 2 * block + norm));
      sum(columns_.offsets[norm], model_.width, model_.Offset(gradients_, 2 * block + norm));
    }
  }

  void Embeddings() const {
    const int64_t rows = model_.Rows(), width = model_.width;
    if (model_.pre_norm && model_.dropout.rate > 0.0f) {
      run_(static_cast<int64_t>(strands_.size()), [&](int64_t task) {
        float* const by_rows = by_states_ + strands_[task].first_row * width;
        Encoder().drop(model_.EmbeddingDropout(), strands_[task].first_row, by_rows, strands_[task].Rows(), width,
                       by_rows);
      });
    }
    std::vector<int32_t> order(rows);
    std::iota(order.begin(), order.end(), 0);
    const int32_t* const tokens = model_.tokens;
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return tokens[a] < tokens[b]; });
    const int64_t word_tasks = (model_.words + kTaskWords - 1) / kTaskWords;
    const int64_t position_tasks = (model_.positions + kTaskPositions - 1) / kTaskPositions;
    run_(word_tasks + position_tasks, [&](int64_t task) {
      if (task >= word_tasks) return Positions((task - word_tasks) * kTaskPositions);
      const int64_t first = task * kTaskWords, last = std::min(first + kTaskWords, model_.words);
      Zero(gradients_.words + first * width, (last - first) * width);
      auto row = std::lower_bound(order.begin(), order.end(), first,
                                  [&](int32_t a, int64_t word) { return tokens[a] < word; });
      for (; row != order.end() && tokens[*row] < last; ++row) {
        Encoder().add(by_states_ + *row * width, width, gradients_.words + tokens[*row] * width);
      }
    });
    Zero(gradients_.type_embedding, width);
    for (int64_t position = 0; position < model_.positions; ++position) {
      Encoder().add(gradients_.positions + position * width, width, gradients_.type_embedding);
    }
  }

  void Positions(int64_t first) const {
    const int64_t last = std::min(first + kTaskPositions, model_.positions), width = model_.width;
    Zero(gradients_.positions + first * width, (last - first) * width);
    for (int64_t sequence = 0; sequence < model_.sequences; ++sequence) {
      const int64_t begin = model_.row_splits[sequence], length = model_.row_splits[sequence + 1] - begin;
      for (int64_t position = first; position < last; ++position) {
        const int64_t place = position - model_.position_offset;
        if (place < 0 || place >= length) continue;
        Encoder().add(by_states_ + (begin + place) * width, width, gradients_.positions + position * width);
      }
    }
  }

  const Transformer& model_;
  const RunTasks& run_;
  const Activations& saved_;
  Workspace* const space_;
  const EncoderArrays<float>& gradients_;
  const std::vector<Strand> strands_;
  const PartialColumns columns_;
  float* const by_states_;                   // [T, H], of the block that is next
  std::array<float*, kDenseLayers> packed_;  // transposed kernels of the block

  // Of the chunk.
  size_t last_ = 0;
  int64_t chunk_strands_ = 0, units_ = 0;
  std::vector<int64_t> first_units_;
  std::array<float*, kDenseLayers> inputs_{}, outputs_{};
  float* partials_ = nullptr;
};

void ZeroAll(const Transformer& model, const EncoderArrays<float>& gradients) {
  const int64_t width = model.width;
  Zero(gradients.words, model.words * width);
  Zero(gradients.positions, model.positions * width);
  for (float* vector : {gradients.type_embedding, gradients.embedding_scale, gradients.embedding_offset}) {
    Zero(vector, width);
  }
  for (const BlockArrays<float>& block : gradients.blocks) {
    for (int layer = 0; layer < kDenseLayers; ++layer) {
      Zero(block.kernels[layer], model.Inputs(layer) * model.Outputs(layer));
      Zero(block.biases[layer], model.Outputs(layer));
    }
    for (float* vector : {block.attention_scale, block.attention_offset, block.output_scale, block.output_offset}) {
      Zero(vector, width);
    }
  }
}

}  // namespace

void Transformer::Backward(const RunTasks& run, const Activations& saved, const float* by_hidden, Workspace* space,
                           const EncoderArrays<float>& gradients) const {
  if (Rows() == 0) return ZeroAll(*this, gradients);
  BackwardPass(*this, run, saved, space, gradients).Run(by_hidden);
}

}  // namespace dpsr
