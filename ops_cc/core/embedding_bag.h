// Embedding bags: the lookup of ragged bags of ids in a table, and sparse AdaGrad on the rows that they name, in one
// pass over the bags each. No copy of the gathered rows is made, and no matrix of row gradients. Both passes are bound
// by memory bandwidth, so rows are prefetched.
//
// No TensorFlow and no threads: the callers share bags, or groups of occurrences, among threads. A result has the same
// bits however they are shared.

#ifndef DPSR_OPS_CC_CORE_EMBEDDING_BAG_H_
#define DPSR_OPS_CC_CORE_EMBEDDING_BAG_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dpsr {

// The divisor of a bag's weighted sum: none, the sum of the weights, the square root of the sum of their squares.
enum class Combiner { kSum, kMean, kSqrtN };

// "sum", "mean" or "sqrtn", which the op's attribute has checked.
Combiner CombinerOf(std::string_view name);

// Ragged bags of ids (CSR). Points into arrays of the caller.
struct Bags {
  const int32_t* values;  // [num_values], ids of rows
  const int64_t* splits;  // [num_bags + 1]; bag i is values[splits[i]..splits[i + 1]]
  const float* weights;   // [num_values]; nullptr: all 1
  int64_t num_values;
  int64_t num_bags;
  Combiner combiner;

  float Weight(int64_t occurrence) const { return weights == nullptr ? 1.0f : weights[occurrence]; }

  // The factor of a bag's weighted sum; arbitrary for an empty bag.
  float Scale(int64_t bag) const;
};

// What is wrong with row splits [num_bags + 1] of `num_values` values; empty where nothing is.
std::string RowSplitsProblem(const int64_t* splits, int64_t num_bags, int64_t num_values);

// What is wrong with bags of a table of `rows` rows: splits or ids; empty where nothing is. All functions below trust
// bags without a problem.
std::string BagsProblem(const Bags& bags, int64_t rows);

// combined[bag] = scale * sum of the weighted rows, for bags `first` to `last`; combined is [num_bags, dimension],
// zeros for an empty bag. Bags may be combined in any order of calls, by several threads at once.
void CombineBags(const float* table, int64_t dimension, const Bags& bags, int64_t first, int64_t last, float* combined);

// Weighs every id of a bag by 1 / sqrt(ids of its kind in the bag), kinds being words, bigrams and trigrams, so that
// each kind counts alike. `kinds` is [num_ids]; weights are [num_values]. Returns what is wrong, or an empty string.
std::string WeighByKind(const uint8_t* kinds, int64_t num_ids, const int32_t* values, const int64_t* splits,
                        int64_t num_bags, int64_t num_values, float* weights);

// Bags of a table, and the gradient of the loss by each combined bag.
struct BagsWithGradient {
  Bags bags;
  const float* gradient;  // [num_bags, dimension]
};

// The gradient of a table by rows: the occurrences of every row that occurs, gathered over several lists of bags. Keeps
// its working memory between calls; not for two threads at once while it groups.
class RowGradients {
 public:
  // Gathers the occurrences: linear in their number, and in `table_rows` once for small tables. The lists' gradients
  // have to outlive the calls of ApplyAdagrad.
  void Group(const std::vector<BagsWithGradient>& lists, int64_t table_rows, int64_t dimension);

  // Occurrences over all lists: the range that ApplyAdagrad is shared out by.
  int64_t num_occurrences() const { return static_cast<int64_t>(gradients_.size()); }

  // Rows of the table that occur, in the order of their first occurrence.
  const std::vector<int32_t>& rows() const { return rows_; }

  // One AdaGrad step on every row whose first occurrence, sorted by row, is in [first, last): a partition of
  // [0, num_occurrences) updates every row once. Both arrays are [table_rows, dimension]. Disjoint ranges may run on
  // several threads at once.
  void ApplyAdagrad(int64_t first, int64_t last, float learning_rate, float* table, float* accumulator) const;

 private:
  struct Slot {
    int32_t row;
    int32_t number;
  };

  int32_t NewRow(int32_t row);
  void NumberByTable(const std::vector<BagsWithGradient>& lists, int64_t table_rows);
  void NumberByHash(const std::vector<BagsWithGradient>& lists, int64_t total);
  void Sort(const std::vector<BagsWithGradient>& lists, int64_t total);

  int64_t dimension_ = 0;
  std::vector<int32_t> rows_;
  std::vector<int64_t> starts_;          // row i of rows_ has occurrences starts_[i]..starts_[i + 1]
  std::vector<const float*> gradients_;  // of the bag of every occurrence
  std::vector<float> coefficients_;      // of that gradient in the row's
  std::vector<Slot> slots_;
  std::vector<int32_t> places_;  // all empty between the calls
  std::vector<int32_t> numbers_;
  std::vector<int64_t> next_;
};

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_EMBEDDING_BAG_H_
