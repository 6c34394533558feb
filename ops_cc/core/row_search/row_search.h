// The best of given rows by inner product: exact search where a list says which rows may be found.

#ifndef DPSR_OPS_CC_CORE_ROW_SEARCH_ROW_SEARCH_H_
#define DPSR_OPS_CC_CORE_ROW_SEARCH_ROW_SEARCH_H_

#include <cstdint>
#include <vector>

namespace dpsr {

// Vectors of one width, of float32 or of 8-bit fixed point; the other pointer is null.
struct RowVectors {
  const float* floats;
  const int8_t* bytes;
  int64_t width;
};

struct ScoredRow {
  float score;
  int32_t row;
  int32_t head;  // of the largest inner product, the first of equal ones
};

struct RowKernels {
  const char* name;

  // best[i] = max over the heads [num_heads, width] of their inner products with row rows[i], and which one it is.
  void (*score_floats)(const float* vectors, int64_t width, const int32_t* rows, int64_t count, const float* heads,
                       int64_t num_heads, ScoredRow* best);
  void (*score_bytes)(const int8_t* vectors, int64_t width, const int32_t* rows, int64_t count, const float* heads,
                      int64_t num_heads, ScoredRow* best);
};

// The functions for the processor this runs on; the same at every call.
const RowKernels& BestRowKernels();

// Those of every instruction set that this processor has, for tests.
std::vector<const RowKernels*> AllRowKernels();

// Keeps its memory from query to query; not for two threads at once.
class RowSearch {
 public:
  // The k best of the rows, best first, ties by lower row; fewer where the list is shorter. Rows are distinct, and rows
  // of the vectors. Valid until the next call.
  const std::vector<ScoredRow>& Search(const RowVectors& vectors, const int32_t* rows, int64_t count,
                                       const float* heads, int64_t num_heads, int64_t k);

 private:
  std::vector<ScoredRow> found_;
};

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_ROW_SEARCH_ROW_SEARCH_H_
