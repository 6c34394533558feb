#include "ops_cc/core/encoder/inference.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops_cc/core/embedding_bag.h"

namespace dpsr {
namespace {

// Tokens of a group: its rows stay in the second-level cache, and the weights pass by once a group.
constexpr int64_t kGroupRows = 96;
// A thread of its own does not pay for fewer.
constexpr int64_t kLeastGroupRows = 12;
// So many columns of the feed-forward part are made, and used up, at a time.
constexpr int64_t kInnerColumns = 256;

float* Reserve(Floats* floats, int64_t size) {
  if (static_cast<int64_t>(floats->size()) < size) floats->resize(size);
  return floats->data();
}

// A product's left side, as the precision of the weights wants it.
struct Rows {
  const float* floats;
  int64_t stride;
  ByteRows bytes;
};

// One pass over a group of texts.
class Pass {
 public:
  Pass(const PackedEncoder& encoder, InferenceMemory* memory)
      : encoder_(encoder),
        memory_(*memory),
        layout_(encoder.width, encoder.intermediate, encoder.bytes != nullptr),
        width_(encoder.width),
        stride_(PaddedTo(encoder.width, kPanelColumns)) {}

  void Run(const int32_t* tokens, const int64_t* splits, int64_t num_texts, float* vectors);

 private:
  void Embed(const int32_t* tokens, const int64_t* splits, int64_t num_texts);
  void Block(int64_t block, const int64_t* splits, int64_t num_texts, bool first_only);
  void AttendGroup(const int64_t* splits, int64_t num_texts, bool first_only);
  void AttendText(const float* qkv, int64_t length, int64_t queries, float* attended);
  void FeedForward(const float* input, const float* added, float* target);
  void FeedForwardInBytes(const float* input, const float* added, float* target);
  void KeepFirstRows(const int64_t* splits, int64_t num_texts);
  void Pool(const int64_t* splits, int64_t num_texts, bool first_only, float* vectors) const;

  Rows Left(const float* rows, int64_t count, int64_t stride, int64_t depth);
  void Multiply(const Rows& left, int64_t rows, const PackedLayer& layer, const ProductTarget& target) const;
  void Norm(const float* input, const float* scale, const float* offset, float* output) const;

  const float* Bias(const PackedLayer& layer) const { return vectors_ + layer.bias; }

  const PackedEncoder& encoder_;
  InferenceMemory& memory_;
  const BlockLayout layout_;
  const int64_t width_;
  const int64_t stride_;  // of every array [rows, width]

  int64_t rows_ = 0;
  float* hidden_ = nullptr;
  const float* vectors_ = nullptr;  // of the block
  int64_t block_ = 0;
};

void Pass::Run(const int32_t* tokens, const int64_t* splits, int64_t num_texts, float* vectors) {
  rows_ = splits[num_texts] - splits[0];
  // Registers are read and written past the last column, never used.
  hidden_ = Reserve(&memory_.hidden, (rows_ + 1) * stride_);
  Embed(tokens + splits[0], splits, num_texts);
  bool first_only = false;
  for (int64_t block = 0; block < encoder_.num_blocks; ++block) {
    first_only = encoder_.first_token && block + 1 == encoder_.num_blocks;
    Block(block, splits, num_texts, first_only);
  }
  if (encoder_.pre_norm) {
    Norm(hidden_, encoder_.embedding_norm, encoder_.embedding_norm + width_, hidden_);
  }
  Pool(splits, num_texts, first_only, vectors);
}

void Pass::Embed(const int32_t* tokens, const int64_t* splits, int64_t num_texts) {
  float* row = hidden_;
  for (int64_t text = 0; text < num_texts; ++text) {
    const float* position = encoder_.positions + encoder_.position_offset * width_;
    for (int64_t i = splits[text]; i < splits[text + 1]; ++i, row += stride_, position += width_) {
      const float* const word = encoder_.words + *tokens++ * width_;
      for (int64_t j = 0; j < width_; ++j) row[j] = word[j] + position[j];
    }
  }
  if (!encoder_.pre_norm) {
    Norm(hidden_, encoder_.embedding_norm, encoder_.embedding_norm + width_, hidden_);
  }
}

void Pass::Block(int64_t block, const int64_t* splits, int64_t num_texts, bool first_only) {
  block_ = block;
  vectors_ = encoder_.vectors + block * layout_.num_vectors;
  const float* const norms[2] = {vectors_ + layout_.attention_norm, vectors_ + layout_.output_norm};
  float* const normed = Reserve(&memory_.normed, (rows_ + 1) * stride_);
  const int64_t qkv_stride = PaddedTo(3 * width_, kPanelColumns);
  float* const qkv = Reserve(&memory_.qkv, (rows_ + 1) * qkv_stride);

  // `sum` is what a part's output is added up in: the hidden states themselves where they are not normed after it.
  float* const sum = encoder_.pre_norm ? hidden_ : normed;
  const float* input = hidden_;
  if (encoder_.pre_norm) {
    Norm(hidden_, norms[0], norms[0] + stride_, normed);
    input = normed;
  }
  Multiply(Left(input, rows_, stride_, width_), rows_, layout_.qkv, {Bias(layout_.qkv), nullptr, qkv, qkv_stride});
  AttendGroup(splits, num_texts, first_only);
  if (first_only) KeepFirstRows(splits, num_texts);
  // Registers of one head's columns reach beyond the row's end.
  const int64_t attended_stride = stride_ + kPanelColumns;
  Multiply(Left(memory_.attended.data(), rows_, attended_stride, width_), rows_, layout_.attention,
           {Bias(layout_.attention), hidden_, sum, stride_});

  if (encoder_.pre_norm) {
    Norm(hidden_, norms[1], norms[1] + stride_, normed);
  } else {
    Norm(sum, norms[0], norms[0] + stride_, hidden_);
  }
  if (encoder_.bytes == nullptr) {
    FeedForward(input, hidden_, sum);
  } else {
    FeedForwardInBytes(input, hidden_, sum);
  }
  if (!encoder_.pre_norm) Norm(sum, norms[1], norms[1] + stride_, hidden_);
}

void Pass::AttendGroup(const int64_t* splits, int64_t num_texts, bool first_only) {
  const int64_t qkv_stride = PaddedTo(3 * width_, kPanelColumns), stride = stride_ + kPanelColumns;
  float* attended = Reserve(&memory_.attended, (rows_ + 1) * stride);
  for (int64_t text = 0; text < num_texts; ++text) {
    const int64_t length = splits[text + 1] - splits[text];
    if (length == 0) continue;
    const int64_t queries = first_only ? 1 : length;
    AttendText(memory_.qkv.data() + (splits[text] - splits[0]) * qkv_stride, length, queries, attended);
    attended += queries * stride;
  }
}

void Pass::AttendText(const float* qkv, int64_t length, int64_t queries, float* attended) {
  const PackedKernels& kernels = Packed();
  const int64_t qkv_stride = PaddedTo(3 * width_, kPanelColumns), size = width_ / encoder_.heads;
  const int64_t padded = PaddedTo(length, kPanelColumns);
  float* const keys = Reserve(&memory_.keys, padded * size);
  float* const scores = Reserve(&memory_.scores, queries * padded);
  const float scale = 1.0f / std::sqrt(static_cast<float>(size));
  for (int64_t head = 0; head < encoder_.heads; ++head) {
    const float* const query = qkv + head * size;
    // Keys stand upright: the lanes of a product run over them. What lies beyond the last key is not looked at.
    for (int64_t i = 0; i < length; ++i) {
      const float* const key = query + width_ + i * qkv_stride;
      float* const column = keys + i / kPanelColumns * size * kPanelColumns + i % kPanelColumns;
      for (int64_t k = 0; k < size; ++k) column[k * kPanelColumns] = key[k];
    }
    kernels.multiply(query, qkv_stride, queries, {keys, size * kPanelColumns, kPanelColumns}, size, length,
                     {nullptr, nullptr, scores, padded});
    Encoder().softmax(scores, queries, length, padded, scale);
    kernels.multiply(scores, padded, queries, {query + 2 * width_, kPanelColumns, qkv_stride}, length, size,
                     {nullptr, nullptr, attended + head * size, stride_ + kPanelColumns});
  }
}

void Pass::FeedForward(const float* input, const float* added, float* target) {
  const PackedKernels& kernels = Packed();
  const PackedLayer &first = layout_.inner, &second = layout_.output;
  const float* const panels = encoder_.floats + block_ * layout_.num_panels;
  float* const inner = Reserve(&memory_.inner, rows_ * kInnerColumns);
  for (int64_t start = 0; start < encoder_.intermediate; start += kInnerColumns) {
    const int64_t columns = std::min(kInnerColumns, encoder_.intermediate - start);
    const int64_t stride = PaddedTo(columns, kPanelColumns);
    kernels.multiply(input, stride_, rows_,
                     {panels + first.panels + start * width_, width_ * kPanelColumns, kPanelColumns}, width_, columns,
                     {Bias(first) + start, nullptr, inner, stride});
    Encoder().activate(encoder_.activation, inner, rows_ * stride, inner);
    kernels.multiply(
        inner, stride, rows_,
        {panels + second.panels + start * kPanelColumns, encoder_.intermediate * kPanelColumns, kPanelColumns}, columns,
        width_, {start == 0 ? Bias(second) : nullptr, start == 0 ? added : target, target, stride_});
  }
}

void Pass::FeedForwardInBytes(const float* input, const float* added, float* target) {
  // A token's bytes are scaled by the greatest of its columns, so all of them come first.
  const int64_t stride = PaddedTo(encoder_.intermediate, kPanelColumns);
  float* const inner = Reserve(&memory_.inner, rows_ * stride);
  Multiply(Left(input, rows_, stride_, width_), rows_, layout_.inner, {Bias(layout_.inner), nullptr, inner, stride});
  Encoder().activate(encoder_.activation, inner, rows_ * stride, inner);
  Multiply(Left(inner, rows_, stride, encoder_.intermediate), rows_, layout_.output,
           {Bias(layout_.output), added, target, stride_});
}

void Pass::KeepFirstRows(const int64_t* splits, int64_t num_texts) {
  rows_ = 0;
  for (int64_t text = 0; text < num_texts; ++text) {
    if (splits[text] == splits[text + 1]) continue;
    std::memmove(hidden_ + rows_++ * stride_, hidden_ + (splits[text] - splits[0]) * stride_, width_ * sizeof(float));
  }
}

void Pass::Pool(const int64_t* splits, int64_t num_texts, bool first_only, float* vectors) const {
  const float* row = hidden_;
  for (int64_t text = 0; text < num_texts; ++text, vectors += width_) {
    const int64_t length = splits[text + 1] - splits[text];
    const int64_t kept = first_only ? std::min<int64_t>(length, 1) : length;
    const int64_t pooled = encoder_.first_token ? std::min<int64_t>(length, 1) : length;
    std::fill(vectors, vectors + width_, 0.0f);
    for (int64_t i = 0; i < pooled; ++i) Encoder().add(row + i * stride_, width_, vectors);
    const float scale = pooled == 0 ? 0.0f : 1.0f / static_cast<float>(pooled);
    for (int64_t j = 0; j < width_; ++j) vectors[j] *= scale;
    row += kept * stride_;
  }
}

Rows Pass::Left(const float* rows, int64_t count, int64_t stride, int64_t depth) {
  if (encoder_.bytes == nullptr) return {rows, stride, {}};
  const int64_t padded = PaddedTo(depth, kByteRows);
  if (static_cast<int64_t>(memory_.bytes.size()) < count * padded) memory_.bytes.resize(count * padded);
  float* const scales = Reserve(&memory_.scales, count);
  for (int64_t i = 0; i < count; ++i) {
    scales[i] = Packed().quantise(rows + i * stride, depth, memory_.bytes.data() + i * padded);
  }
  return {rows, stride, {memory_.bytes.data(), padded, scales}};
}

void Pass::Multiply(const Rows& left, int64_t rows, const PackedLayer& layer, const ProductTarget& target) const {
  const int64_t panels = block_ * layout_.num_panels + layer.panels;
  if (encoder_.bytes == nullptr) {
    const FloatPanels right = {encoder_.floats + panels, layer.inputs * kPanelColumns, kPanelColumns};
    Packed().multiply(left.floats, left.stride, rows, right, layer.inputs, layer.outputs, target);
  } else {
    const int64_t padded = PaddedTo(layer.outputs, kPanelColumns);
    const BytePanels right = {encoder_.bytes + panels, target.bias + padded, target.bias + 2 * padded};
    Packed().multiply_bytes(left.bytes, rows, right, layer.inputs, layer.outputs, target);
  }
}

void Pass::Norm(const float* input, const float* scale, const float* offset, float* output) const {
  for (int64_t row = 0; row < rows_; ++row, input += stride_, output += stride_) {
    Encoder().layer_norm(input, 1, width_, scale, offset, encoder_.norm_epsilon, output);
  }
}

}  // namespace

BlockLayout::BlockLayout(int64_t width, int64_t intermediate, bool bytes) : num_vectors(0), num_panels(0) {
  const auto vector = [&](int64_t size) {
    const int64_t place = num_vectors;
    num_vectors += PaddedTo(size, kPanelColumns);
    return place;
  };
  const auto layer = [&](int64_t inputs, int64_t outputs) {
    const int64_t panels = num_panels, bias = vector(outputs);
    if (bytes) {
      vector(outputs);
      vector(outputs);
    }
    num_panels += PaddedTo(inputs, bytes ? kByteRows : 1) * PaddedTo(outputs, kPanelColumns);
    return PackedLayer{inputs, outputs, panels, bias};
  };
  qkv = layer(width, 3 * width);
  attention = layer(width, width);
  inner = layer(width, intermediate);
  output = layer(intermediate, width);
  attention_norm = vector(width);
  vector(width);
  output_norm = vector(width);
  vector(width);
}

std::string TextsProblem(const PackedEncoder& encoder, const int32_t* tokens, int64_t num_tokens,
                         const int64_t* row_splits, int64_t num_texts) {
  std::string problem = RowSplitsProblem(row_splits, num_texts, num_tokens);
  if (!problem.empty()) return problem;
  const int64_t most = encoder.num_positions - encoder.position_offset;
  for (int64_t text = 0; text < num_texts; ++text) {
    const int64_t length = row_splits[text + 1] - row_splits[text];
    if (length > most) {
      return "text " + std::to_string(text) + " has " + std::to_string(length) +
             " tokens, but there are positions for " + std::to_string(most) + "; truncate it";
    }
  }
  for (int64_t i = 0; i < num_tokens; ++i) {
    if (tokens[i] < 0 || tokens[i] >= encoder.num_words) {
      return "token " + std::to_string(i) + " is " + std::to_string(tokens[i]) + "; expected an id below " +
             std::to_string(encoder.num_words);
    }
  }
  return "";
}

std::vector<int64_t> GroupTexts(const int64_t* row_splits, int64_t num_texts, int64_t num_threads) {
  const int64_t share = (row_splits[num_texts] - row_splits[0] + num_threads - 1) / num_threads;
  const int64_t rows = std::clamp(share, kLeastGroupRows, kGroupRows);
  std::vector<int64_t> starts = {0};
  for (int64_t text = 1; text < num_texts; ++text) {
    if (row_splits[text + 1] - row_splits[starts.back()] > rows) starts.push_back(text);
  }
  starts.push_back(num_texts);
  return starts;
}

void EncodeTexts(const PackedEncoder& encoder, const int32_t* tokens, const int64_t* row_splits, int64_t first,
                 int64_t last, InferenceMemory* memory, float* vectors) {
  Pass(encoder, memory).Run(tokens, row_splits + first, last - first, vectors + first * encoder.width);
}

}  // namespace dpsr
