// The ops around core/encoder/transformer.h: checks, memory and threads.

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ops_cc/core/encoder/transformer.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/lib/core/threadpool.h"

namespace dpsr {
namespace {

using tensorflow::OpInputList;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::OpOutputList;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::thread::ThreadPool;

// Weights before those of the blocks, and of a block.
constexpr int kEmbeddingWeights = 5, kBlockWeights = 12;

absl::Status Expect(const char* what, const TensorShape& found, const TensorShape& expected) {
  if (found == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, " has shape ", found.DebugString(), "; expected ", expected.DebugString()));
}

// Pointers in the order of the weights.
template <typename T>
EncoderArrays<T> Arrange(const std::vector<T*>& all) {
  EncoderArrays<T> arrays{all[0], all[1], all[2], all[3], all[4], {}};
  for (size_t i = kEmbeddingWeights; i < all.size(); i += kBlockWeights) {
    T* const* const of_block = all.data() + i;
    arrays.blocks.push_back({{of_block[0], of_block[2], of_block[6], of_block[8]},
                             {of_block[1], of_block[3], of_block[7], of_block[9]},
                             of_block[4],
                             of_block[5],
                             of_block[10],
                             of_block[11]});
  }
  return arrays;
}

RunTasks OnWorkers(OpKernelContext* context) {
  ThreadPool* const workers = context->device()->tensorflow_cpu_worker_threads()->workers;
  return [workers](int64_t tasks, const std::function<void(int64_t)>& task) {
    workers->ParallelFor(tasks, ThreadPool::SchedulingParams::Fixed(1), [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) task(i);
    });
  };
}

class TextEncoderOpBase : public OpKernel {
 public:
  explicit TextEncoderOpBase(OpKernelConstruction* context) : OpKernel(context) {
    std::string activation, norm;
    OP_REQUIRES_OK(context, context->GetAttr("heads", &heads_));
    OP_REQUIRES_OK(context, context->GetAttr("activation", &activation));
    OP_REQUIRES_OK(context, context->GetAttr("norm", &norm));
    OP_REQUIRES_OK(context, context->GetAttr("norm_epsilon", &epsilon_));
    OP_REQUIRES_OK(context, context->GetAttr("position_offset", &position_offset_));
    OP_REQUIRES_OK(context, context->GetAttr("dropout", &dropout_));
    OP_REQUIRES_OK(context, context->GetAttr("round_operands", &bfloat16_));
    OP_REQUIRES(context, dropout_ >= 0.0f && dropout_ < 1.0f,
                absl::InvalidArgumentError(absl::StrCat("dropout = ", dropout_, "; expected at least 0, below 1")));
    activation_ = activation == "gelu"        ? Activation::kGelu
                  : activation == "gelu_tanh" ? Activation::kGeluTanh
                                              : Activation::kRelu;
    pre_norm_ = norm == "pre";
  }

 protected:
  // Checks shapes and values of what both ops read.
  absl::Status Read(OpKernelContext* context, Transformer* model) const {
    const Tensor *tokens, *row_splits, *seed;
    TF_RETURN_IF_ERROR(context->input("tokens", &tokens));
    TF_RETURN_IF_ERROR(context->input("row_splits", &row_splits));
    TF_RETURN_IF_ERROR(context->input("seed", &seed));
    TF_RETURN_IF_ERROR(Expect("seed", seed->shape(), TensorShape({2})));
    TF_RETURN_IF_ERROR(ReadWeights(context, model));
    model->heads = heads_;
    model->activation = activation_;
    model->pre_norm = pre_norm_;
    model->epsilon = epsilon_;
    model->position_offset = position_offset_;
    const auto seeds = seed->vec<int64_t>();
    model->dropout = Dropout{static_cast<uint64_t>(seeds(0)), dropout_}.Of(static_cast<uint64_t>(seeds(1)));
    model->products = &Products(bfloat16_);
    if (model->width % heads_ != 0) {
      return absl::InvalidArgumentError(absl::StrCat("heads = ", heads_, "; expected a divisor of ", model->width));
    }
    return ReadTokens(*tokens, *row_splits, model);
  }

  // Memory for one call, given back with Return; calls may run at the same time.
  std::unique_ptr<Workspace> Borrow() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (free_.empty()) return std::make_unique<Workspace>();
    std::unique_ptr<Workspace> space = std::move(free_.back());
    free_.pop_back();
    return space;
  }
  void Return(std::unique_ptr<Workspace> space) {
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(std::move(space));
  }

 private:
  static absl::Status ReadWeights(OpKernelContext* context, Transformer* model) {
    OpInputList weights;
    TF_RETURN_IF_ERROR(context->input_list("weights", &weights));
    if (weights.size() < kEmbeddingWeights || (weights.size() - kEmbeddingWeights) % kBlockWeights != 0) {
      return absl::InvalidArgumentError(absl::StrCat(weights.size(), " weights; expected ", kEmbeddingWeights, " and ",
                                                     kBlockWeights, " of every block"));
    }
    if (weights[0].dims() != 2 || weights[1].dims() != 2) {
      return absl::InvalidArgumentError(absl::StrCat("words have shape ", weights[0].shape().DebugString(),
                                                     " and positions ", weights[1].shape().DebugString(),
                                                     "; expected [V, H] and [P, H]"));
    }
    const int64_t width = weights[0].dim_size(1);
    if (width == 0) return absl::InvalidArgumentError("words have a width of 0");
    const bool has_blocks = weights.size() > kEmbeddingWeights;
    const Tensor& inner = weights[has_blocks ? kEmbeddingWeights + 7 : 2];
    const int64_t intermediate = has_blocks ? inner.NumElements() : 0;
    const TensorShape vector({width}), table({weights[1].dim_size(0), width});
    const TensorShape of_block[kBlockWeights] = {TensorShape({width, 3 * width}),
                                                 TensorShape({3 * width}),
                                                 TensorShape({width, width}),
                                                 vector,
                                                 vector,
                                                 vector,
                                                 TensorShape({width, intermediate}),
                                                 TensorShape({intermediate}),
                                                 TensorShape({intermediate, width}),
                                                 vector,
                                                 vector,
                                                 vector};
    std::vector<const float*> all;
    for (int i = 0; i < weights.size(); ++i) {
      const TensorShape& expected = i == 0                  ? weights[0].shape()
                                    : i == 1                ? table
                                    : i < kEmbeddingWeights ? vector
                                                            : of_block[(i - kEmbeddingWeights) % kBlockWeights];
      TF_RETURN_IF_ERROR(Expect(absl::StrCat("weight ", i).c_str(), weights[i].shape(), expected));
      all.push_back(weights[i].flat<float>().data());
    }
    model->width = width;
    model->intermediate = intermediate;
    model->words = weights[0].dim_size(0);
    model->positions = weights[1].dim_size(0);
    model->weights = Arrange(all);
    return absl::OkStatus();
  }

  static absl::Status ReadTokens(const Tensor& tokens, const Tensor& row_splits, Transformer* model) {
    if (tokens.dims() != 1 || row_splits.dims() != 1 || row_splits.NumElements() < 1) {
      return absl::InvalidArgumentError(absl::StrCat("tokens have shape ", tokens.shape().DebugString(),
                                                     " and row_splits ", row_splits.shape().DebugString(),
                                                     "; expected [T] and [B + 1]"));
    }
    const auto splits = row_splits.vec<int64_t>();
    model->sequences = row_splits.NumElements() - 1;
    if (splits(0) != 0 || splits(model->sequences) != tokens.NumElements()) {
      return absl::InvalidArgumentError(absl::StrCat("row_splits go from ", splits(0), " to ", splits(model->sequences),
                                                     "; expected from 0 to ", tokens.NumElements()));
    }
    const int64_t longest = model->positions - model->position_offset;
    for (int64_t i = 0; i < model->sequences; ++i) {
      const int64_t length = splits(i + 1) - splits(i);
      if (length < 0 || length > longest) {
        return absl::InvalidArgumentError(absl::StrCat("sequence ", i, " has ", length, " tokens; expected at most ",
                                                       longest, ", as there are positions; truncate it"));
      }
    }
    const auto ids = tokens.vec<int32_t>();
    for (int64_t i = 0; i < tokens.NumElements(); ++i) {
      if (ids(i) < 0 || ids(i) >= model->words) {
        return absl::InvalidArgumentError(
            absl::StrCat("token ", i, " is ", ids(i), "; expected a row of the ", model->words, " words"));
      }
    }
    model->tokens = ids.data();
    model->row_splits = splits.data();
    return absl::OkStatus();
  }

  int64_t heads_, position_offset_;
  Activation activation_;
  bool pre_norm_, bfloat16_;
  float epsilon_, dropout_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> free_;
};

class TextEncoderOp : public TextEncoderOpBase {
 public:
  explicit TextEncoderOp(OpKernelConstruction* context) : TextEncoderOpBase(context) {
    OP_REQUIRES_OK(context, context->GetAttr("differentiable", &differentiable_));
  }

  void Compute(OpKernelContext* context) override {
    Transformer model;
    OP_REQUIRES_OK(context, Read(context, &model));
    Tensor *hidden = nullptr, *activations = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({model.Rows(), model.width}), &hidden));
    Activations saved{model.Rows(), model.width, model.intermediate, model.Blocks(), nullptr};
    OP_REQUIRES_OK(context,
                   context->allocate_output(1, TensorShape({differentiable_ ? saved.Size() : 0}), &activations));
    if (differentiable_) saved.data = activations->flat<float>().data();
    std::unique_ptr<Workspace> space = Borrow();
    model.Forward(OnWorkers(context), saved, space.get(), hidden->flat<float>().data());
    Return(std::move(space));
  }

 private:
  bool differentiable_;
};

class TextEncoderGradientOp : public TextEncoderOpBase {
 public:
  using TextEncoderOpBase::TextEncoderOpBase;

  void Compute(OpKernelContext* context) override {
    Transformer model;
    OP_REQUIRES_OK(context, Read(context, &model));
    const Tensor *activations, *gradient;
    OP_REQUIRES_OK(context, context->input("activations", &activations));
    OP_REQUIRES_OK(context, context->input("gradient", &gradient));
    OP_REQUIRES_OK(context, Expect("gradient", gradient->shape(), TensorShape({model.Rows(), model.width})));
    // The core does not write what it takes from an array of either pass.
    const Activations saved{model.Rows(), model.width, model.intermediate, model.Blocks(),
                            const_cast<float*>(activations->flat<float>().data())};
    OP_REQUIRES_OK(context, Expect("activations", activations->shape(), TensorShape({saved.Size()})));
    OpInputList weights;
    OpOutputList outputs;
    OP_REQUIRES_OK(context, context->input_list("weights", &weights));
    OP_REQUIRES_OK(context, context->output_list("weight_gradients", &outputs));
    std::vector<float*> all;
    for (int i = 0; i < weights.size(); ++i) {
      Tensor* output = nullptr;
      OP_REQUIRES_OK(context, outputs.allocate(i, weights[i].shape(), &output));
      all.push_back(output->flat<float>().data());
    }
    std::unique_ptr<Workspace> space = Borrow();
    model.Backward(OnWorkers(context), saved, gradient->flat<float>().data(), space.get(), Arrange(all));
    Return(std::move(space));
  }
};

REGISTER_KERNEL_BUILDER(Name("DpsrTextEncoder").Device(tensorflow::DEVICE_CPU), TextEncoderOp);
REGISTER_KERNEL_BUILDER(Name("DpsrTextEncoderGradient").Device(tensorflow::DEVICE_CPU), TextEncoderGradientOp);

}  // namespace
}  // namespace dpsr
