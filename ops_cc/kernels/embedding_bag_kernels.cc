// Ops on embedding tables: tensors are checked and locked here, and shared out among threads; the arithmetic is in
// ops_cc/core/embedding_bag.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ops_cc/core/dense.h"
#include "ops_cc/core/embedding_bag.h"
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
  const std::string problem = BagsProblem(*bags, rows);
  if (!problem.empty()) return absl::InvalidArgumentError(problem);
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
    RunSharded(context, bags.num_bags, cost,
               [&](int64_t first, int64_t last) { CombineBags(rows, dimension, bags, first, last, combined); });
    return absl::OkStatus();
  }

  std::vector<Combiner> combiners_;
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
    // One for each thread of the pool, so that its working memory is kept from step to step.
    thread_local RowGradients gradients;
    gradients.Group(lists, rows, dimension);
    float* const values = locked.values();
    float* const accumulator = locked.accumulator();
    const RowGradients* const grouped = &gradients;  // a thread_local is not captured
    RunSharded(context, num_values, 2 * RowCost(dimension),
               [=](int64_t from, int64_t to) { grouped->ApplyAdagrad(from, to, learning_rate, values, accumulator); });
    return absl::OkStatus();
  }

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
