// The dense arithmetic of a training step, compiled for several instruction sets; the best one is chosen at run time.
//
// No TensorFlow, no threads, no memory of its own but what it is handed. Sums run in an order that depends on shapes
// alone, so a result has the same bits however the rows of it are shared out among threads.

#ifndef DPSR_OPS_CC_CORE_DENSE_H_
#define DPSR_OPS_CC_CORE_DENSE_H_

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace dpsr {

// Rows of vectors start at whole cache lines.
template <typename T>
struct CacheLineAllocator {
  using value_type = T;
  CacheLineAllocator() = default;
  template <typename U>
  CacheLineAllocator(const CacheLineAllocator<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(64))); }
  void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t(64)); }
  bool operator==(const CacheLineAllocator&) const { return true; }
  bool operator!=(const CacheLineAllocator&) const { return false; }
};
using Floats = std::vector<float, CacheLineAllocator<float>>;

// A matrix of any layout: element (i, j) is data[i * row_stride + j * column_stride].
struct MatrixView {
  const float* data;
  int64_t row_stride;
  int64_t column_stride;
};

// The right side of a product [K, N], as panels of a few columns: read once per panel of rows on the left.
struct PackedMatrix {
  Floats panels;
  int64_t rows = 0;     // K
  int64_t columns = 0;  // N
};

// Which scores of a block are negatives of its rows. A block has `rows` rows, and scores[j * stride + i] is that of
// item j for row i; entries from `rows` up to `stride` are padding.
struct NegativeMask {
  const int32_t* positive_rows;  // [stride], item of every row
  const int32_t* query_rows;     // [stride], query of every row
  const int32_t* item_rows;      // [items], of the items
  const int32_t* item_queries;   // [items], the query each item was clicked for; nullptr for random items
  const float* corrections;      // [items], taken off the scores; nullptr for none
};

// A masked score: below every real one, and its exponential is 0.
constexpr float kMasked = -3.4028234663852886e38f;

// All functions of one instruction set. Lanes run over the rows of a block, whose stride is a multiple of kBlockStride.
struct DenseKernels {
  const char* name;

  // Lays out `right` [rows, columns] for Multiply; reuses the memory of `packed`.
  void (*pack)(const MatrixView& right, int64_t rows, int64_t columns, PackedMatrix* packed);

  // result[i, j] (+)= sum_k left[i, k] * right[first_row + k, j] for i < rows, k < depth; result has row stride
  // `stride`.
  void (*multiply)(const MatrixView& left, int64_t rows, const PackedMatrix& right, int64_t first_row, int64_t depth,
                   bool accumulate, float* result, int64_t stride);

  // Weighs the heads of every score (the soft dot product). products[j][head * stride + i] becomes the derivative of
  // the score by that product, scores[j * stride + i] the score.
  void (*combine_heads)(float* products, int64_t items, int64_t heads, int64_t stride, float temperature,
                        float* scores);

  // Takes off the corrections, and sets the scores of items that are not negatives to kMasked.
  void (*mask)(float* scores, int64_t items, int64_t stride, const NegativeMask& mask);

  // maximum[i] = max(maximum[i], scores[j][i]) over the items.
  void (*maximum)(const float* scores, int64_t items, int64_t stride, float* maximum);

  // scores[j][i] = exp((scores[j][i] - shift[i]) * inverse_temperature); sums[i] += it.
  void (*exponentials)(float* scores, int64_t items, int64_t stride, const float* shift, float inverse_temperature,
                       float* sums);

  // scores[j][i] = 1 if scores[j][i] > threshold[i], else 0; counts[i] += it; sums[i] += the excess; counted[i] += 1
  // where the score is not masked.
  void (*excesses)(float* scores, int64_t items, int64_t stride, const float* threshold, float* sums, float* counts,
                   float* counted);

  // products[j][head * stride + i] *= coefficients[j * stride + i].
  void (*scale_heads)(float* products, int64_t items, int64_t heads, int64_t stride, const float* coefficients);

  // sum_i a[i] * b[i]; y[i] += a * x[i].
  float (*dot)(const float* a, const float* b, int64_t size);
  void (*add_scaled)(float a, const float* x, int64_t size, float* y);

  // sum = scale * sum_i weights[i] * rows[ids[i]], rows of `size` floats; weights are 1 if nullptr. Rows of the ids up
  // to `known`, at least `count`, are fetched ahead.
  void (*sum_rows)(const float* rows, const int32_t* ids, const float* weights, int64_t count, int64_t known,
                   int64_t size, float scale, float* sum);
  // sum = sum_i weights[i] * rows[i].
  void (*sum_at)(const float* const* rows, const float* weights, int64_t count, int64_t size, float* sum);

  // output[i, j] += bias[j], then 0 for what is negative if `relu`; output is [rows, width].
  void (*add_bias)(const float* bias, int64_t rows, int64_t width, bool relu, float* output);
  // gradient[i] = 0 where the ReLU put out 0.
  void (*relu_gradient)(const float* outputs, int64_t size, float* gradient);

  // One AdaGrad step: accumulator += gradient^2; values -= rate * gradient / sqrt(accumulator + epsilon).
  void (*adagrad)(const float* gradient, int64_t size, float rate, float epsilon, float* values, float* accumulator);
};

// A stride of a block is a multiple of this: the lanes of the widest instruction set.
constexpr int64_t kBlockStride = 16;

inline int64_t PaddedToLanes(int64_t size) { return (size + kBlockStride - 1) / kBlockStride * kBlockStride; }

// The functions for the processor this runs on; the same at every call.
const DenseKernels& Dense();

// Those of every instruction set that this processor has, for tests.
std::vector<const DenseKernels*> AllDenseKernels();

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_DENSE_H_
