// A transformer encoder from tokens to one vector of each text, of weights that were packed when the model was
// exported: embeddings, blocks and pooling in one pass over a few texts at a time, which stay in the cache. Texts are
// not padded.
//
// No TensorFlow and no threads: callers share groups of texts among threads. A text's vector has the same bits alone
// and in any group.

#ifndef DPSR_OPS_CC_CORE_ENCODER_INFERENCE_H_
#define DPSR_OPS_CC_CORE_ENCODER_INFERENCE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "ops_cc/core/dense.h"
#include "ops_cc/core/encoder/kernels.h"
#include "ops_cc/core/encoder/packed.h"

namespace dpsr {

// A matrix [inputs, outputs] inside the arrays of a block: its place among the block's panels, and that of its bias,
// with the scales and sums of an int8 matrix after it, among the block's vectors.
struct PackedLayer {
  int64_t inputs;
  int64_t outputs;
  int64_t panels;
  int64_t bias;
};

// Where the weights of a block lie. Every vector is filled up to whole panels with zeros.
struct BlockLayout {
  BlockLayout(int64_t width, int64_t intermediate, bool bytes);

  PackedLayer qkv, attention, inner, output;
  int64_t attention_norm;  // scale, offset
  int64_t output_norm;
  int64_t num_vectors;  // floats of a block
  int64_t num_panels;   // floats or bytes of a block
};

// The weights of an encoder. Points into arrays of the caller.
struct PackedEncoder {
  int64_t width;
  int64_t heads;
  int64_t intermediate;
  int64_t num_words;
  int64_t num_positions;
  int64_t num_blocks;
  int64_t position_offset;
  Activation activation;
  bool pre_norm;
  bool first_token;  // pooling: the first token's state, or the mean of all
  float norm_epsilon;

  const float* words;           // [num_words, width]
  const float* positions;       // [num_positions, width], the type's embedding added
  const float* embedding_norm;  // [2, width], scale and offset
  const float* vectors;         // [num_blocks, num_vectors]
  const float* floats;          // panels of float32 [num_blocks, num_panels], or
  const int8_t* bytes;          // of int8
};

// What is wrong with texts, as row splits [num_texts + 1] of tokens; empty where nothing is. EncodeTexts trusts texts
// without a problem.
std::string TextsProblem(const PackedEncoder& encoder, const int32_t* tokens, int64_t num_tokens,
                         const int64_t* row_splits, int64_t num_texts);

// Where groups of neighbouring texts start, and the end: groups of about `rows` tokens, which EncodeTexts is best
// called with, and more than one for several threads.
std::vector<int64_t> GroupTexts(const int64_t* row_splits, int64_t num_texts, int64_t num_threads);

// The working memory of a thread, reused between calls.
struct InferenceMemory {
  Floats hidden, normed, sum, qkv, attended, inner, scores, keys, scales;
  std::vector<uint8_t> bytes;
};

// vectors[text] for the texts `first` to `last`; vectors are [num_texts, width], zeros for a text without tokens.
void EncodeTexts(const PackedEncoder& encoder, const int32_t* tokens, const int64_t* row_splits, int64_t first,
                 int64_t last, InferenceMemory* memory, float* vectors);

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_ENCODER_INFERENCE_H_
