// Lookup and update of embedding tables in one pass over the bags each: no gathered copy of the rows, and no matrix of
// row gradients. Both are bound by memory, so rows are fetched ahead of their use.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "Eigen/Core"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
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

using Row = Eigen::Map<Eigen::ArrayXf>;
using ConstRow = Eigen::Map<const Eigen::ArrayXf>;

enum class Combiner { kSum, kMean, kSqrtN };

absl::Status ReadCombiner(OpKernelConstruction* context, Combiner* combiner) {
  std::string name;
  TF_RETURN_IF_ERROR(context->GetAttr("combiner", &name));
  *combiner = name == "sum" ? Combiner::kSum : name == "mean" ? Combiner::kMean : Combiner::kSqrtN;
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

// Reads values, row_splits and weights, inputs `first` on, for a table of `rows` rows.
absl::Status ReadBags(OpKernelContext* context, int first, int64_t rows, Combiner combiner, Bags* bags) {
  const Tensor& values = context->input(first);
  const Tensor& splits = context->input(first + 1);
  const Tensor& weights = context->input(first + 2);
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
  for (int64_t i = 0; i < bags->num_values; ++i) {
    // As unsigned numbers, so that one comparison finds the negative ones too.
    if (static_cast<uint64_t>(static_cast<int64_t>(bags->values[i])) >= static_cast<uint64_t>(rows)) {
      return absl::InvalidArgumentError(
          absl::StrCat("values[", i, "] = ", bags->values[i], " is no row of a table of ", rows, " rows"));
    }
  }
  return absl::OkStatus();
}

void Prefetch(const float* row, int64_t dimension) {
  constexpr int64_t kLine = 16;
  for (int64_t i = 0; i < dimension; i += kLine) __builtin_prefetch(row + i);
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

class EmbeddingBagOp : public OpKernel {
 public:
  explicit EmbeddingBagOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadCombiner(context, &combiner_));
  }

  void Compute(OpKernelContext* context) override {
    tensorflow::core::RefCountPtr<Var> variable;
    OP_REQUIRES_OK(context, LookupResource(context, HandleFromInput(context, 0), &variable));
    tf_shared_lock lock(*variable->mu());
    const Tensor& table = *variable->tensor();
    OP_REQUIRES_OK(context, CheckTable(table));
    const int64_t dimension = table.dim_size(1);
    Bags bags;
    OP_REQUIRES_OK(context, ReadBags(context, 1, table.dim_size(0), combiner_, &bags));
    Tensor* output = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({bags.num_bags, dimension}), &output));
    const float* const rows = table.flat<float>().data();
    float* const combined = output->flat<float>().data();
    const int64_t cost = (bags.num_values / std::max<int64_t>(bags.num_bags, 1) + 1) * RowCost(dimension);
    RunSharded(context, bags.num_bags, cost, [&](int64_t first, int64_t last) {
      for (int64_t bag = first; bag < last; ++bag) Combine(bags, bag, rows, dimension, combined + bag * dimension);
    });
  }

 private:
  static void Combine(const Bags& bags, int64_t bag, const float* rows, int64_t dimension, float* combined) {
    constexpr int64_t kAhead = 4;
    Row sum(combined, dimension);
    sum.setZero();
    for (int64_t i = bags.splits[bag]; i < bags.splits[bag + 1]; ++i) {
      if (i + kAhead < bags.num_values) Prefetch(rows + bags.values[i + kAhead] * dimension, dimension);
      const ConstRow row(rows + bags.values[i] * dimension, dimension);
      if (bags.weights == nullptr) {
        sum += row;
      } else {
        sum += bags.weights[i] * row;
      }
    }
    if (bags.combiner != Combiner::kSum) sum *= bags.Scale(bag);
  }

  Combiner combiner_;
};

// The occurrences of every row that occurs, in their order: row i of `rows` has occurrences starts[i]..starts[i + 1].
class Occurrences {
 public:
  struct Occurrence {
    int32_t bag;
    float coefficient;  // of the bag's gradient in the row's
  };

  std::vector<int32_t> rows;
  std::vector<int64_t> starts;
  std::vector<Occurrence> sorted;

  void Group(const Bags& bags) {
    Number(bags);
    Sort(bags);
  }

 private:
  struct Slot {
    int32_t row;
    int32_t number;
  };
  static constexpr int32_t kEmpty = -1;

  // Numbers the rows in the order of their first occurrence, and counts their occurrences.
  void Number(const Bags& bags) {
    int bits = 4;
    while ((int64_t{1} << bits) < 2 * bags.num_values) ++bits;
    const size_t mask = (size_t{1} << bits) - 1;
    slots_.assign(mask + 1, Slot{kEmpty, 0});
    numbers_.resize(bags.num_values);
    rows.clear();
    starts.assign(1, 0);
    for (int64_t i = 0; i < bags.num_values; ++i) {
      const int32_t row = bags.values[i];
      // Fibonacci hashing: the upper bits of the product depend on all bits of the row.
      size_t slot = (static_cast<uint64_t>(row) * 0x9E3779B97F4A7C15u) >> (64 - bits);
      while (slots_[slot].row != row && slots_[slot].row != kEmpty) slot = (slot + 1) & mask;
      if (slots_[slot].row == kEmpty) {
        slots_[slot] = {row, static_cast<int32_t>(rows.size())};
        rows.push_back(row);
        starts.push_back(0);
      }
      numbers_[i] = slots_[slot].number;
      ++starts[numbers_[i] + 1];
    }
    for (size_t i = 1; i < starts.size(); ++i) starts[i] += starts[i - 1];
  }

  // Counting sort by row.
  void Sort(const Bags& bags) {
    sorted.resize(bags.num_values);
    next_.assign(starts.begin(), starts.end() - 1);
    for (int64_t bag = 0; bag < bags.num_bags; ++bag) {
      const float scale = bags.Scale(bag);
      for (int64_t i = bags.splits[bag]; i < bags.splits[bag + 1]; ++i) {
        sorted[next_[numbers_[i]]++] = {static_cast<int32_t>(bag), scale * bags.Weight(i)};
      }
    }
  }

  std::vector<Slot> slots_;
  std::vector<int32_t> numbers_;
  std::vector<int64_t> next_;
};

// Makes a variable's buffer its own, so that writing to it in place is seen by no tensor that was read before, and
// makes later reads copy it. The caller holds the variable's lock.
absl::Status OwnBuffer(OpKernelContext* context, Var* variable) {
  if (variable->copy_on_read_mode.load()) return absl::OkStatus();
  if (!variable->tensor()->RefCountIsOne()) {
    Tensor copy;
    TF_RETURN_IF_ERROR(context->allocate_temp(tensorflow::DT_FLOAT, variable->tensor()->shape(), &copy));
    copy.flat<float>() = static_cast<const Tensor*>(variable->tensor())->flat<float>();
    *variable->tensor() = std::move(copy);
  }
  variable->copy_on_read_mode.store(true);
  return absl::OkStatus();
}

class EmbeddingBagAdagradOp : public OpKernel {
 public:
  explicit EmbeddingBagAdagradOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadCombiner(context, &combiner_));
  }

  void Compute(OpKernelContext* context) override {
    tensorflow::core::RefCountPtr<Var> table, accumulator;
    OP_REQUIRES_OK(context, LookupResource(context, HandleFromInput(context, 0), &table));
    OP_REQUIRES_OK(context, LookupResource(context, HandleFromInput(context, 1), &accumulator));
    OP_REQUIRES(context, table.get() != accumulator.get(),
                absl::InvalidArgumentError("the table is its own accumulator; expected two variables"));
    mutex_lock table_lock(*table->mu());
    mutex_lock accumulator_lock(*accumulator->mu());
    OP_REQUIRES_OK(context, CheckTable(*table->tensor()));
    OP_REQUIRES_OK(context, CheckTable(*accumulator->tensor()));
    const TensorShape& shape = table->tensor()->shape();
    OP_REQUIRES(context, accumulator->tensor()->shape() == shape,
                absl::InvalidArgumentError(absl::StrCat("the accumulator has shape ",
                                                        accumulator->tensor()->shape().DebugString(), ", the table ",
                                                        shape.DebugString(), "; expected the same")));
    Bags bags;
    OP_REQUIRES_OK(context, ReadBags(context, 2, shape.dim_size(0), combiner_, &bags));
    const Tensor& gradient = context->input(5);
    OP_REQUIRES(context, gradient.shape() == TensorShape({bags.num_bags, shape.dim_size(1)}),
                absl::InvalidArgumentError(absl::StrCat("the gradient has shape ", gradient.shape().DebugString(),
                                                        "; expected [", bags.num_bags, ",", shape.dim_size(1), "]")));
    OP_REQUIRES(context, context->input(6).NumElements() == 1,
                absl::InvalidArgumentError(absl::StrCat("the learning rate has shape ",
                                                        context->input(6).shape().DebugString(), "; expected []")));
    OP_REQUIRES_OK(context, OwnBuffer(context, table.get()));
    OP_REQUIRES_OK(context, OwnBuffer(context, accumulator.get()));

    thread_local Occurrences occurrences;
    occurrences.Group(bags);
    Update update{
        &occurrences,      gradient.flat<float>().data(),         context->input(6).flat<float>()(0),
        shape.dim_size(1), table->tensor()->flat<float>().data(), accumulator->tensor()->flat<float>().data()};
    // Sharded by occurrences: a shard has the rows whose first one it holds.
    RunSharded(context, bags.num_values, 2 * RowCost(update.dimension), update);
  }

 private:
  struct Update {
    const Occurrences* occurrences;
    const float* gradient;
    float learning_rate;
    int64_t dimension;
    float* table;
    float* accumulator;

    void operator()(int64_t first, int64_t last) const {
      constexpr size_t kAhead = 2;
      const std::vector<int64_t>& starts = occurrences->starts;
      const std::vector<int32_t>& rows = occurrences->rows;
      Eigen::ArrayXf sum(dimension);
      size_t i = std::lower_bound(starts.begin(), starts.end() - 1, first) - starts.begin();
      for (; i < rows.size() && starts[i] < last; ++i) {
        if (i + kAhead < rows.size()) {
          Prefetch(table + rows[i + kAhead] * dimension, dimension);
          Prefetch(accumulator + rows[i + kAhead] * dimension, dimension);
        }
        sum.setZero();
        for (int64_t j = starts[i]; j < starts[i + 1]; ++j) {
          const Occurrences::Occurrence& occurrence = occurrences->sorted[j];
          sum += occurrence.coefficient * ConstRow(gradient + occurrence.bag * dimension, dimension);
        }
        Row row(table + rows[i] * dimension, dimension);
        Row squares(accumulator + rows[i] * dimension, dimension);
        squares += sum.square();
        row -= learning_rate * sum / squares.sqrt();
      }
    }
  };

  Combiner combiner_;
};

REGISTER_KERNEL_BUILDER(Name("DpsrEmbeddingBag").Device(tensorflow::DEVICE_CPU), EmbeddingBagOp);
REGISTER_KERNEL_BUILDER(Name("DpsrEmbeddingBagAdagrad").Device(tensorflow::DEVICE_CPU), EmbeddingBagAdagradOp);

}  // namespace
}  // namespace dpsr
