// A transformer encoder over sequences without padding, and its gradient.
//
// The states of all sequences are rows of one array [T, H]. Rows go through a block in strands of whole sequences,
// which depend on nothing that another strand does; gradients by weights are sums over chunks of strands in their
// order. So a result has the same bits for any number of threads.

#ifndef DPSR_OPS_CC_CORE_ENCODER_TRANSFORMER_H_
#define DPSR_OPS_CC_CORE_ENCODER_TRANSFORMER_H_

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "ops_cc/core/dense.h"
#include "ops_cc/core/encoder/kernels.h"
#include "ops_cc/core/encoder/products.h"

namespace dpsr {

// Runs task(0) to task(tasks - 1), in any order, on any threads; returns after all.
using RunTasks = std::function<void(int64_t tasks, const std::function<void(int64_t task)>& task)>;

// The dense layers of a block, in the order of its weights.
enum DenseLayer { kQkv, kAttentionOutput, kIntermediate, kOutput, kDenseLayers };

// Pointers to the weights of a block, or to the gradients by them. Kernels are [inputs, outputs].
template <typename T>
struct BlockArrays {
  std::array<T*, kDenseLayers> kernels, biases;
  T *attention_scale, *attention_offset, *output_scale, *output_offset;  // [H]
};

// Those of an encoder.
template <typename T>
struct EncoderArrays {
  T* words;                               // [V, H]
  T* positions;                           // [P, H]
  T* type_embedding;                      // [H]
  T *embedding_scale, *embedding_offset;  // [H]; pre-LN: of the norm after the last block
  std::vector<BlockArrays<T>> blocks;
};

// Memory kept between calls, by its use.
class Workspace {
 public:
  // At least `size` floats, with whatever was there.
  float* Get(int use, int64_t size) {
    if (static_cast<int64_t>(buffers_[use].size()) < size) {
      buffers_[use].clear();
      buffers_[use].resize(size);
    }
    return buffers_[use].data();
  }

 private:
  std::array<Floats, 16> buffers_;
};

// Consecutive sequences whose rows are handled together.
struct Strand {
  int64_t first_sequence, last_sequence;
  int64_t first_row, last_row;
  int64_t Rows() const { return last_row - first_row; }
};

// What the gradient needs of the forward pass, in one array of Size floats.
struct Activations {
  int64_t rows, width, intermediate, blocks;
  float* data;

  int64_t Size() const { return rows * ((2 * blocks + 1) * width + blocks * (4 * width + intermediate)); }
  // [rows, H], the input of norm i: what comes into block 0, then what the residual sums of the blocks are.
  float* Sum(int64_t i) const { return data + i * rows * width; }
  float* OfBlock(int64_t block) const { return Sum(2 * blocks + 1) + block * rows * (4 * width + intermediate); }
  float* Qkv(int64_t block) const { return OfBlock(block); }                              // [rows, 3H]
  float* Context(int64_t block) const { return OfBlock(block) + rows * 3 * width; }       // [rows, H]
  float* Intermediate(int64_t block) const { return OfBlock(block) + rows * 4 * width; }  // [rows, F], not activated
};

struct Transformer {
  int64_t width;         // H
  int64_t heads;         // a divisor of H
  int64_t intermediate;  // F
  Activation activation;
  bool pre_norm;
  float epsilon;
  int64_t position_offset;
  Dropout dropout;
  const ProductKernels* products;

  int64_t sequences;          // B
  const int32_t* tokens;      // [T], rows of the words
  const int64_t* row_splits;  // [B + 1]; no sequence is longer than the positions
  int64_t words, positions;   // V, P
  EncoderArrays<const float> weights;

  int64_t Rows() const { return row_splits[sequences]; }
  int64_t Blocks() const { return static_cast<int64_t>(weights.blocks.size()); }
  int64_t Inputs(int layer) const { return layer == kOutput ? intermediate : width; }
  int64_t Outputs(int layer) const { return layer == kQkv ? 3 * width : layer == kIntermediate ? intermediate : width; }

  // hidden [T, H]; fills `saved`, unless its data is nullptr.
  void Forward(const RunTasks& run, const Activations& saved, Workspace* space, float* hidden) const;
  // From the gradient by `hidden` to those by all weights, which it overwrites.
  void Backward(const RunTasks& run, const Activations& saved, const float* by_hidden, Workspace* space,
                const EncoderArrays<float>& gradients) const;

  // Parts of both passes.
  static constexpr int64_t kBlockRows = 64;  // that pass a layer together
  std::vector<Strand> Strands() const;
  // Kernel `layer` of a block, or its transpose, as the right side of a product.
  void PackKernels(const RunTasks& run, int64_t block, bool transposed,
                   const std::array<float*, kDenseLayers>& packed) const;
  int64_t PackedSize(int layer, bool transposed) const;
  template <typename T>
  T* Scale(const EncoderArrays<T>& arrays, int64_t norm) const;
  template <typename T>
  T* Offset(const EncoderArrays<T>& arrays, int64_t norm) const;
  // Rows as the left side of a product: themselves, or their units in `units`.
  const float* Units(const float* values, int64_t rows, int64_t depth, float* units) const;
  // output = the norm `norm` of its input, rows `first` and on of the batch, dropped where embeddings are.
  void Normalize(const float* input, int64_t norm, int64_t first, int64_t rows, float* output) const;
  bool DropsNorm(int64_t norm) const { return norm == 0 && !pre_norm && dropout.rate > 0.0f; }
  // The places of dropout.
  Dropout EmbeddingDropout() const { return dropout.Of(0); }
  Dropout ProbabilityDropout(int64_t block) const { return dropout.Of(3 * block + 1); }
  Dropout OutputDropout(int64_t block, int layer) const {
    return dropout.Of(3 * block + (layer == kAttentionOutput ? 2 : 3));
  }
};

template <typename T>
T* Transformer::Scale(const EncoderArrays<T>& arrays, int64_t norm) const {
  // Post-LN: the embeddings' norm comes first; pre-LN: last.
  const int64_t of_blocks = pre_norm ? norm : norm - 1;
  if (of_blocks < 0 || of_blocks == 2 * Blocks()) return arrays.embedding_scale;
  const BlockArrays<T>& block = arrays.blocks[of_blocks / 2];
  return of_blocks % 2 == 0 ? block.attention_scale : block.output_scale;
}

template <typename T>
T* Transformer::Offset(const EncoderArrays<T>& arrays, int64_t norm) const {
  const int64_t of_blocks = pre_norm ? norm : norm - 1;
  if (of_blocks < 0 || of_blocks == 2 * Blocks()) return arrays.embedding_offset;
  const BlockArrays<T>& block = arrays.blocks[of_blocks / 2];
  return of_blocks % 2 == 0 ? block.attention_offset : block.output_offset;
}

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_ENCODER_TRANSFORMER_H_
