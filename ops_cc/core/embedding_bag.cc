#include "ops_cc/core/embedding_bag.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "ops_cc/core/dense.h"

namespace dpsr {
namespace {

constexpr int32_t kEmpty = -1;

// Tables up to this many rows are numbered by a place for each row: 256 KiB, which fit the second-level cache.
constexpr int64_t kSmallTable = 1 << 16;

// True for 0 <= id < rows; as unsigned numbers, one comparison finds the negative ids too.
bool IsRow(int32_t id, int64_t rows) {
  return static_cast<uint64_t>(static_cast<int64_t>(id)) < static_cast<uint64_t>(rows);
}

void Prefetch(const float* row, int64_t dimension) {
  constexpr int64_t kFloatsPerLine = 16;
  for (int64_t i = 0; i < dimension; i += kFloatsPerLine) __builtin_prefetch(row + i);
}

}  // namespace

Combiner CombinerOf(std::string_view name) {
  return name == "sum" ? Combiner::kSum : name == "mean" ? Combiner::kMean : Combiner::kSqrtN;
}

float Bags::Scale(int64_t bag) const {
  const int64_t first = splits[bag], last = splits[bag + 1];
  if (combiner == Combiner::kSum || first == last) return 1.0f;
  float total = static_cast<float>(last - first);
  if (weights != nullptr) {
    total = 0.0f;
    for (int64_t i = first; i < last; ++i) {
      total += combiner == Combiner::kMean ? weights[i] : weights[i] * weights[i];
    }
  }
  return combiner == Combiner::kMean ? 1.0f / total : 1.0f / std::sqrt(total);
}

std::string RowSplitsProblem(const int64_t* splits, int64_t num_bags, int64_t num_values) {
  if (splits[0] != 0 || splits[num_bags] != num_values) {
    return "row_splits go from " + std::to_string(splits[0]) + " to " + std::to_string(splits[num_bags]) +
           "; expected 0 to " + std::to_string(num_values) + ", the number of values";
  }
  for (int64_t bag = 0; bag < num_bags; ++bag) {
    if (splits[bag] > splits[bag + 1]) return "row_splits decrease at bag " + std::to_string(bag);
  }
  return "";
}

std::string BagsProblem(const Bags& bags, int64_t rows) {
  std::string problem = RowSplitsProblem(bags.splits, bags.num_bags, bags.num_values);
  if (!problem.empty()) return problem;
  // A loop without a way out, which the compiler vectorises; the place is looked for only where there is one.
  bool all_are_rows = true;
  for (int64_t i = 0; i < bags.num_values; ++i) all_are_rows &= IsRow(bags.values[i], rows);
  for (int64_t i = 0; !all_are_rows && i < bags.num_values; ++i) {
    if (!IsRow(bags.values[i], rows)) {
      return "values[" + std::to_string(i) + "] = " + std::to_string(bags.values[i]) + " is not a row of a table of " +
             std::to_string(rows) + " rows";
    }
  }
  return "";
}

void CombineBags(const float* table, int64_t dimension, const Bags& bags, int64_t first, int64_t last,
                 float* combined) {
  const DenseKernels& dense = Dense();
  for (int64_t bag = first; bag < last; ++bag) {
    const int64_t from = bags.splits[bag];
    dense.sum_rows(table, bags.values + from, bags.weights == nullptr ? nullptr : bags.weights + from,
                   bags.splits[bag + 1] - from, bags.num_values - from, dimension, bags.Scale(bag),
                   combined + bag * dimension);
  }
}

std::string WeighByKind(const uint8_t* kinds, int64_t num_ids, const int32_t* values, const int64_t* splits,
                        int64_t num_bags, int64_t num_values, float* weights) {
  std::string problem = RowSplitsProblem(splits, num_bags, num_values);
  if (!problem.empty()) return problem;
  std::array<int32_t, 256> counts{};
  for (int64_t bag = 0; bag < num_bags; ++bag) {
    const int64_t first = splits[bag], last = splits[bag + 1];
    for (int64_t i = first; i < last; ++i) {
      if (!IsRow(values[i], num_ids)) {
        return "values[" + std::to_string(i) + "] = " + std::to_string(values[i]) + " has no kind: there are " +
               std::to_string(num_ids) + " ids";
      }
      ++counts[kinds[values[i]]];
    }
    for (int64_t i = first; i < last; ++i) {
      weights[i] = 1.0f / std::sqrt(static_cast<float>(counts[kinds[values[i]]]));
    }
    for (int64_t i = first; i < last; ++i) counts[kinds[values[i]]] = 0;
  }
  return "";
}

void RowGradients::Group(const std::vector<BagsWithGradient>& lists, int64_t table_rows, int64_t dimension) {
  int64_t total = 0;
  for (const BagsWithGradient& list : lists) total += list.bags.num_values;
  dimension_ = dimension;
  numbers_.resize(total);
  rows_.clear();
  starts_.assign(1, 0);
  if (table_rows <= std::max<int64_t>(kSmallTable, 4 * total)) {
    NumberByTable(lists, table_rows);
  } else {
    NumberByHash(lists, total);
  }
  for (size_t i = 1; i < starts_.size(); ++i) starts_[i] += starts_[i - 1];
  Sort(lists, total);
}

void RowGradients::ApplyAdagrad(int64_t first, int64_t last, float learning_rate, float* table,
                                float* accumulator) const {
  constexpr size_t kAhead = 6;
  const DenseKernels& dense = Dense();
  Floats sum(dimension_);
  size_t i = std::lower_bound(starts_.begin(), starts_.end() - 1, first) - starts_.begin();
  for (; i < rows_.size() && starts_[i] < last; ++i) {
    if (i + kAhead < rows_.size()) {
      Prefetch(table + rows_[i + kAhead] * dimension_, dimension_);
      Prefetch(accumulator + rows_[i + kAhead] * dimension_, dimension_);
    }
    dense.sum_at(gradients_.data() + starts_[i], coefficients_.data() + starts_[i], starts_[i + 1] - starts_[i],
                 dimension_, sum.data());
    dense.adagrad(sum.data(), dimension_, learning_rate, 0.0f, table + rows_[i] * dimension_,
                  accumulator + rows_[i] * dimension_);
  }
}

int32_t RowGradients::NewRow(int32_t row) {
  rows_.push_back(row);
  starts_.push_back(0);
  return static_cast<int32_t>(rows_.size()) - 1;
}

// Numbers the rows in the order of their first occurrence, and counts their occurrences, with a place for every row of
// the table.
void RowGradients::NumberByTable(const std::vector<BagsWithGradient>& lists, int64_t table_rows) {
  if (places_.size() < static_cast<size_t>(table_rows)) places_.resize(table_rows, kEmpty);
  int64_t at = 0;
  for (const BagsWithGradient& list : lists) {
    for (int64_t i = 0; i < list.bags.num_values; ++i, ++at) {
      int32_t& place = places_[list.bags.values[i]];
      if (place == kEmpty) place = NewRow(list.bags.values[i]);
      numbers_[at] = place;
      ++starts_[place + 1];
    }
  }
  for (const int32_t row : rows_) places_[row] = kEmpty;
}

// The same with a hash table of the occurrences, for a table whose array of places would exceed the cache.
void RowGradients::NumberByHash(const std::vector<BagsWithGradient>& lists, int64_t total) {
  int bits = 4;
  while ((int64_t{1} << bits) < 2 * total) ++bits;
  const size_t mask = (size_t{1} << bits) - 1;
  slots_.assign(mask + 1, Slot{kEmpty, 0});
  int64_t at = 0;
  for (const BagsWithGradient& list : lists) {
    for (int64_t i = 0; i < list.bags.num_values; ++i, ++at) {
      const int32_t row = list.bags.values[i];
      // Fibonacci hashing: the upper bits of the product depend on all bits of the row.
      size_t slot = (static_cast<uint64_t>(row) * 0x9E3779B97F4A7C15u) >> (64 - bits);
      while (slots_[slot].row != row && slots_[slot].row != kEmpty) slot = (slot + 1) & mask;
      if (slots_[slot].row == kEmpty) slots_[slot] = {row, NewRow(row)};
      numbers_[at] = slots_[slot].number;
      ++starts_[numbers_[at] + 1];
    }
  }
}

// Counting sort by row.
void RowGradients::Sort(const std::vector<BagsWithGradient>& lists, int64_t total) {
  gradients_.resize(total);
  coefficients_.resize(total);
  next_.assign(starts_.begin(), starts_.end() - 1);
  int64_t at = 0;
  for (const BagsWithGradient& list : lists) {
    const Bags& bags = list.bags;
    for (int64_t bag = 0; bag < bags.num_bags; ++bag) {
      const float scale = bags.Scale(bag);
      const float* const gradient = list.gradient + bag * dimension_;
      for (int64_t i = bags.splits[bag]; i < bags.splits[bag + 1]; ++i, ++at) {
        const int64_t place = next_[numbers_[at]]++;
        gradients_[place] = gradient;
        coefficients_[place] = scale * bags.Weight(i);
      }
    }
  }
}

}  // namespace dpsr
