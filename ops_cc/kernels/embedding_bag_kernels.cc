// Lookup and update of embedding tables in one pass over the bags each: no gathered copy of the rows, and no matrix of
// row gradients. Both are bound by memory, so rows are fetched ahead of their use.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ops_cc/core/dense.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"
#include "tensorflow/core/util/work_sharder.h"

namespace dpsr {
namespace {

using tensorflow::mutex_lock;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::tf_shared_lock;
using tensorflow::Var;

enum class Combiner { kSum, kMean, kSqrtN };

Combiner CombinerOf(const std::string& name) {
  return name == "sum" ? Combiner::kSum : name == "mean" ? Combiner::kMean : Combiner::kSqrtN;
}

// The combiner of every list of bags: one attribute of an op for one table, a list for several.
absl::Status ReadCombiners(OpKernelConstruction* context, std::vector<Combiner>* combiners) {
  std::vector<std::string> names;
  if (context->HasAttr("combiners")) {
    TF_RETURN_IF_ERROR(context->GetAttr("combiners", &names));
  } else {
    TF_RETURN_IF_ERROR(context->GetAttr("combiner", &names.emplace_back()));
  }
  for (const std::string& name : names) combiners->push_back(CombinerOf(name));
  return absl::OkStatus();
}

// Checked ragged bags. Points into the op's inputs.
struct Bags {
  const int32_t* values;
  const int64_t* splits;
  const float* weights;  // nullptr: all 1
  int64_t num_values;
  int64_t num_bags;
  Combiner combiner;

  float Weight(int64_t occurrence) const { return weights == nullptr ? 1.0f : weights[occurrence]; }

  // What the weighted sum of a bag is multiplied by; any number for an empty one.
  float Scale(int64_t bag) const {
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
};

// Checks bags of a table of `rows` rows.
absl::Status ReadBags(const Tensor& values, const Tensor& splits, const Tensor& weights, int64_t rows,
                      Combiner combiner, Bags* bags) {
  if (values.dims() != 1 || splits.dims() != 1 || weights.dims() != 1 || splits.NumElements() == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("values have shape ", values.shape().DebugString(), ", row_splits ", splits.shape().DebugString(),
                     ", weights ", weights.shape().DebugString(), "; expected [nnz], [B + 1] and [nnz] or [0]"));
  }
  *bags = {values.flat<int32_t>().data(), splits.flat<int64_t>().data(), nullptr,
           values.NumElements(),          splits.NumElements() - 1,      combiner};
  if (weights.NumElements() != 0) bags->weights = weights.flat<float>().data();
  if (weights.NumElements() != 0 && weights.NumElements() != bags->num_values) {
    return absl::InvalidArgumentError(absl::StrCat("there are ", weights.NumElements(), " weights for ",
                                                   bags->num_values, " values; expected one for each, or none"));
  }
  if (bags->splits[0] != 0 || bags->splits[bags->num_bags] != bags->num_values) {
    return absl::InvalidArgumentError(absl::StrCat("row_splits go from ", bags->splits[0], " to ",
                                                   bags->splits[bags->num_bags], "; expected 0 to ", bags->num_values,
                                                   ", the number of values"));
  }
  for (int64_t bag = 0; bag < bags->num_bags; ++bag) {
    if (bags->splits[bag] > bags->splits[bag + 1]) {
      return absl::InvalidArgumentError(absl::StrCat("row_splits decrease at bag ", bag));
    }
  }
  bool is_row = true;
  for (int64_t i = 0; i < bags->num_values; ++i) {
    is_row &= static_cast<uint64_t>(static_cast<int64_t>(bags->values[i])) < static_cast<uint64_t>(rows);
  }
  for (int64_t i = 0; !is_row && i < bags->num_values; ++i) {
    // As unsigned numbers, so that one comparison finds the negative ones too.
    if (static_cast<uint64_t>(static_cast<int64_t>(bags->values[i])) >= static_cast<uint64_t>(rows)) {
      return absl::InvalidArgumentError(
          absl::StrCat("values[", i, "] = ", bags->values[i], " is no row of a table of ", rows, " rows"));
    }
  }
  return absl::OkStatus();
}

// Cost of one occurrence or one row in the units of Shard, which are about nanoseconds.
int64_t RowCost(int64_t dimension) { return 5 + dimension / 4; }

template <typename Work>
void RunSharded(OpKernelContext* context, int64_t total, int64_t cost, const Work& work) {
  const auto& workers = *context->device()->tensorflow_cpu_worker_threads();
  tensorflow::Shard(workers.num_threads, workers.workers, total, cost, work);
}

absl::Status CheckTable(const Tensor& table) {
  if (table.dtype() == tensorflow::DT_FLOAT && table.dims() == 2) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the table has type ", tensorflow::DataTypeString(table.dtype()),
                                                 " and shape ", table.shape().DebugString(),
                                                 "; expected float and [rows, d], initialised"));
}

// Both DpsrEmbeddingBag and DpsrEmbeddingBags: a list of bags, each with its table.
class EmbeddingBagsOp : public OpKernel {
 public:
  explicit EmbeddingBagsOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadCombiners(context, &combiners_));
    OP_REQUIRES(context, context->num_inputs() == 4 * static_cast<int>(combiners_.size()),
                absl::InvalidArgumentError(absl::StrCat(combiners_.size(), " combiners for ", context->num_inputs() / 4,
                                                        " lists of bags; expected one for each")));
  }

  void Compute(OpKernelContext* context) override {
    const int count = static_cast<int>(combiners_.size());
    for (int i = 0; i < count; ++i) {
      OP_REQUIRES_OK(context, Look(context, i, context->input(count + i), context->input(2 * count + i),
                                   context->input(3 * count + i)));
    }
  }

 private:
  absl::Status Look(OpKernelContext* context, int i, const Tensor& values, const Tensor& splits,
                    const Tensor& weights) {
    tensorflow::core::RefCountPtr<Var> variable;
    TF_RETURN_IF_ERROR(LookupResource(context, HandleFromInput(context, i), &variable));
    tf_shared_lock lock(*variable->mu());
    const Tensor& table = *variable->tensor();
    TF_RETURN_IF_ERROR(CheckTable(table));
    const int64_t dimension = table.dim_size(1);
    Bags bags;
    TF_RETURN_IF_ERROR(ReadBags(values, splits, weights, table.dim_size(0), combiners_[i], &bags));
    Tensor* output = nullptr;
    TF_RETURN_IF_ERROR(context->allocate_output(i, TensorShape({bags.num_bags, dimension}), &output));
    const float* const rows = table.flat<float>().data();
    float* const combined = output->flat<float>().data();
    const int64_t cost = (bags.num_values / std::max<int64_t>(bags.num_bags, 1) + 1) * RowCost(dimension);
    RunSharded(context, bags.num_bags, cost, [&](int64_t first, int64_t last) {
      for (int64_t bag = first; bag < last; ++bag) {
        const int64_t from = bags.splits[bag];
        Dense().sum_rows(rows, bags.values + from, bags.weights == nullptr ? nullptr : bags.weights + from,
                         bags.splits[bag + 1] - from, bags.num_values - from, dimension, bags.Scale(bag),
                         combined + bag * dimension);
      }
    });
    return absl::OkStatus();
  }

  std::vector<Combiner> combiners_;
};

// Bags of a table, and the gradient by each of them.
struct BagsWithGradient {
  Bags bags;
  const float* gradient;  // [num_bags, dimension]
};

// The occurrences of every row that occurs, in their order: row i of `rows` has occurrences starts[i]..starts[i + 1].
class Occurrences {
 public:
  std::vector<int32_t> rows;
  std::vector<int64_t> starts;
  std::vector<const float*> gradients;  // of the bag of every occurrence
  std::vector<float> coefficients;      // of that gradient in the row's

  void Group(const std::vector<BagsWithGradient>& lists, int64_t table_rows, int64_t dimension) {
    int64_t total = 0;
    for (const BagsWithGradient& list : lists) total += list.bags.num_values;
    numbers_.resize(total);
    rows.clear();
    starts.assign(1, 0);
    if (table_rows <= std::max<int64_t>(kSmallTable, 4 * total)) {
      NumberByTable(lists, table_rows);
    } else {
      NumberByHash(lists, total);
    }
    for (size_t i = 1; i < starts.size(); ++i) starts[i] += starts[i - 1];
    Sort(lists, total, dimension);
  }

 private:
  struct Slot {
    int32_t row;
    int32_t number;
  };
  static constexpr int32_t kEmpty = -1;
  static constexpr int64_t kSmallTable = 1 << 16;

  int32_t NewRow(int32_t row) {
    rows.push_back(row);
    starts.push_back(0);
    return static_cast<int32_t>(rows.size()) - 1;
  }

  // Numbers the rows in the order of their first occurrence, and counts their occurrences. This way looks into a place
  // for every row of the table.
  void NumberByTable(const std::vector<BagsWithGradient>& lists, int64_t table_rows) {
    if (places_.size() < static_cast<size_t>(table_rows)) places_.resize(table_rows, kEmpty);
    int64_t at = 0;
    for (const BagsWithGradient& list : lists) {
      for (int64_t i = 0; i < list.bags.num_values; ++i, ++at) {
        int32_t& place = places_[list.bags.values[i]];
        if (place == kEmpty) place = NewRow(list.bags.values[i]);
        numbers_[at] = place;
        ++starts[place + 1];
      }
    }
    for (const int32_t row : rows) places_[row] = kEmpty;
  }

  // The same where the table is so large that its places would be nowhere in the cache.
  void NumberByHash(const std::vector<BagsWithGradient>& lists, int64_t total) {
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
        ++starts[numbers_[at] + 1];
      }
    }
  }

  // Counting sort by row.
  void Sort(const std::vector<BagsWithGradient>& lists, int64_t total, int64_t dimension) {
    gradients.resize(total);
    coefficients.resize(total);
    next_.assign(starts.begin(), starts.end() - 1);
    int64_t at = 0;
    for (const BagsWithGradient& list : lists) {
      const Bags& bags = list.bags;
      for (int64_t bag = 0; bag < bags.num_bags; ++bag) {
        const float scale = bags.Scale(bag);
        const float* const gradient = list.gradient + bag * dimension;
        for (int64_t i = bags.splits[bag]; i < bags.splits[bag + 1]; ++i, ++at) {
          const int64_t place = next_[numbers_[at]]++;
          gradients[place] = gradient;
          coefficients[place] = scale * bags.Weight(i);
        }
      }
    }
  }

  std::vector<Slot> slots_;
  std::vector<int32_t> places_;  // kEmpty between the calls
  std::vector<int32_t> numbers_;
  std::vector<int64_t> next_;
};

// Makes a variable's buffer its own, so that writing to it in place is seen by no tensor that was read before, and
// makes later reads copy it unless they are over before the next update, as those of small variables are. The caller
// holds the variable's lock.
absl::Status OwnBuffer(OpKernelContext* context, Var* variable, bool copy_on_read) {
  if (variable->copy_on_read_mode.load()) return absl::OkStatus();
  if (!variable->tensor()->RefCountIsOne()) {
    Tensor copy;
    TF_RETURN_IF_ERROR(context->allocate_temp(tensorflow::DT_FLOAT, variable->tensor()->shape(), &copy));
    copy.flat<float>() = static_cast<const Tensor*>(variable->tensor())->flat<float>();
    *variable->tensor() = std::move(copy);
  }
  if (copy_on_read) variable->copy_on_read_mode.store(true);
  return absl::OkStatus();
}

// A variable and its AdaGrad accumulator, both locked.
class LockedPair {
 public:
  absl::Status Lock(OpKernelContext* context, int variable, int accumulator) {
    TF_RETURN_IF_ERROR(LookupResource(context, HandleFromInput(context, variable), &variable_));
    TF_RETURN_IF_ERROR(LookupResource(context, HandleFromInput(context, accumulator), &accumulator_));
    if (variable_.get() == accumulator_.get()) {
      return absl::InvalidArgumentError("the table is its own accumulator; expected two variables");
    }
    variable_lock_ = std::make_unique<mutex_lock>(*variable_->mu());
    accumulator_lock_ = std::make_unique<mutex_lock>(*accumulator_->mu());
    const Tensor &values = *variable_->tensor(), &squares = *accumulator_->tensor();
    if (values.shape() == squares.shape() && values.dtype() == tensorflow::DT_FLOAT &&
        squares.dtype() == tensorflow::DT_FLOAT) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(absl::StrCat("the accumulator has shape ", squares.shape().DebugString(),
                                                   ", the table ", values.shape().DebugString(),
                                                   "; expected the same, of floats"));
  }

  absl::Status Own(OpKernelContext* context, bool copy_on_read) {
    TF_RETURN_IF_ERROR(OwnBuffer(context, variable_.get(), copy_on_read));
    return OwnBuffer(context, accumulator_.get(), copy_on_read);
  }

  const Tensor& tensor() const { return *variable_->tensor(); }
  float* values() { return variable_->tensor()->flat<float>().data(); }
  float* accumulator() { return accumulator_->tensor()->flat<float>().data(); }

 private:
  // Locks are released before the variables.
  tensorflow::core::RefCountPtr<Var> variable_, accumulator_;
  std::unique_ptr<mutex_lock> variable_lock_, accumulator_lock_;
};

absl::Status ReadScalar(const Tensor& tensor, float* value) {
  if (tensor.NumElements() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("the learning rate has shape ", tensor.shape().DebugString(), "; expected []"));
  }
  *value = tensor.flat<float>()(0);
  return absl::OkStatus();
}

// Both DpsrEmbeddingBagAdagrad and DpsrEmbeddingBagsAdagrad: tables, and lists of bags, each of one of the tables.
class EmbeddingBagsAdagradOp : public OpKernel {
 public:
  explicit EmbeddingBagsAdagradOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadCombiners(context, &combiners_));
    if (context->HasAttr("tables_of_bags")) {
      OP_REQUIRES_OK(context, context->GetAttr("tables_of_bags", &tables_));
    } else {
      tables_.push_back(0);
    }
    num_tables_ = (context->num_inputs() - 1 - 4 * static_cast<int>(combiners_.size())) / 2;
    OP_REQUIRES(context,
                tables_.size() == combiners_.size() &&
                    context->num_inputs() == 2 * num_tables_ + 4 * static_cast<int>(combiners_.size()) + 1,
                absl::InvalidArgumentError(absl::StrCat(combiners_.size(), " combiners and ", tables_.size(),
                                                        " tables_of_bags; expected one for each list of bags")));
    for (const int table : tables_) {
      OP_REQUIRES(context, 0 <= table && table < num_tables_,
                  absl::InvalidArgumentError(absl::StrCat("bags of table ", table, " of ", num_tables_)));
    }
  }

  void Compute(OpKernelContext* context) override {
    float learning_rate;
    OP_REQUIRES_OK(context, ReadScalar(context->input(context->num_inputs() - 1), &learning_rate));
    for (int table = 0; table < num_tables_; ++table) OP_REQUIRES_OK(context, Apply(context, table, learning_rate));
  }

 private:
  absl::Status Apply(OpKernelContext* context, int table, float learning_rate) {
    LockedPair locked;
    TF_RETURN_IF_ERROR(locked.Lock(context, table, num_tables_ + table));
    TF_RETURN_IF_ERROR(CheckTable(locked.tensor()));
    const int64_t rows = locked.tensor().dim_size(0), dimension = locked.tensor().dim_size(1);
    const int count = static_cast<int>(combiners_.size()), first = 2 * num_tables_;
    std::vector<BagsWithGradient> lists;
    int64_t num_values = 0;
    for (int i = 0; i < count; ++i) {
      if (tables_[i] != table) continue;
      BagsWithGradient list;
      TF_RETURN_IF_ERROR(ReadBags(context->input(first + i), context->input(first + count + i),
                                  context->input(first + 2 * count + i), rows, combiners_[i], &list.bags));
      const Tensor& gradient = context->input(first + 3 * count + i);
      if (gradient.shape() != TensorShape({list.bags.num_bags, dimension})) {
        return absl::InvalidArgumentError(absl::StrCat("the gradient has shape ", gradient.shape().DebugString(),
                                                       "; expected [", list.bags.num_bags, ",", dimension, "]"));
      }
      list.gradient = gradient.flat<float>().data();
      num_values += list.bags.num_values;
      lists.push_back(list);
    }
    TF_RETURN_IF_ERROR(locked.Own(context, /*copy_on_read=*/true));
    thread_local Occurrences occurrences;
    occurrences.Group(lists, rows, dimension);
    const Update update{&occurrences, learning_rate, dimension, locked.values(), locked.accumulator()};
    // Sharded by occurrences: a shard has the rows whose first one it holds.
    RunSharded(context, num_values, 2 * RowCost(dimension), update);
    return absl::OkStatus();
  }

  struct Update {
    const Occurrences* occurrences;
    float learning_rate;
    int64_t dimension;
    float* table;
    float* accumulator;

    void operator()(int64_t first, int64_t last) const {
      constexpr size_t kAhead = 6;
      const DenseKernels& dense = Dense();
      const std::vector<int64_t>& starts = occurrences->starts;
      const std::vector<int32_t>& rows = occurrences->rows;
      Floats sum(dimension);
      size_t i = std::lower_bound(starts.begin(), starts.end() - 1, first) - starts.begin();
      for (; i < rows.size() && starts[i] < last; ++i) {
        if (i + kAhead < rows.size()) {
          Prefetch(table + rows[i + kAhead] * dimension);
          Prefetch(accumulator + rows[i + kAhead] * dimension);
        }
        dense.sum_at(occurrences->gradients.data() + starts[i], occurrences->coefficients.data() + starts[i],
                     starts[i + 1] - starts[i], dimension, sum.data());
        dense.adagrad(sum.data(), dimension, learning_rate, 0.0f, table + rows[i] * dimension,
                      accumulator + rows[i] * dimension);
      }
    }

    void Prefetch(const float* row) const {
      constexpr int64_t kLine = 16;
      for (int64_t i = 0; i < dimension; i += kLine) __builtin_prefetch(row + i);
    }
  };

  int num_tables_;
  std::vector<Combiner> combiners_;
  std::vector<int> tables_;  // of every list of bags
};

class AdagradOp : public OpKernel {
 public:
  explicit AdagradOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("epsilon", &epsilon_));
  }

  void Compute(OpKernelContext* context) override {
    const int count = (context->num_inputs() - 1) / 3;
    float learning_rate;
    OP_REQUIRES_OK(context, ReadScalar(context->input(3 * count), &learning_rate));
    for (int i = 0; i < count; ++i) {
      LockedPair locked;
      OP_REQUIRES_OK(context, locked.Lock(context, i, count + i));
      const Tensor& gradient = context->input(2 * count + i);
      OP_REQUIRES(context, gradient.shape() == locked.tensor().shape(),
                  absl::InvalidArgumentError(absl::StrCat("gradient ", i, " has shape ", gradient.shape().DebugString(),
                                                          "; expected ", locked.tensor().shape().DebugString(),
                                                          ", that of the variable")));
      OP_REQUIRES_OK(context, locked.Own(context, /*copy_on_read=*/false));
      Dense().adagrad(gradient.flat<float>().data(), gradient.NumElements(), learning_rate, epsilon_, locked.values(),
                      locked.accumulator());
    }
  }

 private:
  float epsilon_;
};

REGISTER_KERNEL_BUILDER(Name("DpsrEmbeddingBag").Device(tensorflow::DEVICE_CPU), EmbeddingBagsOp);
REGISTER_KERNEL_BUILDER(Name("DpsrEmbeddingBags").Device(tensorflow::DEVICE_CPU), EmbeddingBagsOp);
REGISTER_KERNEL_BUILDER(Name("DpsrEmbeddingBagAdagrad").Device(tensorflow::DEVICE_CPU), EmbeddingBagsAdagradOp);
REGISTER_KERNEL_BUILDER(Name("DpsrEmbeddingBagsAdagrad").Device(tensorflow::DEVICE_CPU), EmbeddingBagsAdagradOp);
REGISTER_KERNEL_BUILDER(Name("DpsrAdagrad").Device(tensorflow::DEVICE_CPU), AdagradOp);

}  // namespace
}  // namespace dpsr
