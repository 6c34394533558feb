// The op around core/encoder/inference.h: checks and threads.

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ops_cc/core/encoder/inference.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/lib/core/threadpool.h"

namespace dpsr {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

absl::Status WantShape(const char* name, const Tensor& tensor, const TensorShape& expected) {
  if (tensor.shape() == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, " has shape ", tensor.shape().DebugString(), "; expected ", expected.DebugString()));
}

absl::Status WantRank(const char* name, const Tensor& tensor, int rank) {
  if (tensor.dims() == rank) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, " has shape ", tensor.shape().DebugString(), "; expected ", rank, " dimensions"));
}

template <typename T>
class PackedEncoderOp : public OpKernel {
 public:
  explicit PackedEncoderOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("heads", &encoder_.heads));
    OP_REQUIRES_OK(context, context->GetAttr("intermediate", &encoder_.intermediate));
    OP_REQUIRES_OK(context, context->GetAttr("norm_epsilon", &encoder_.norm_epsilon));
    OP_REQUIRES_OK(context, context->GetAttr("position_offset", &encoder_.position_offset));
    std::string activation, norm, pooling;
    OP_REQUIRES_OK(context, context->GetAttr("activation", &activation));
    OP_REQUIRES_OK(context, context->GetAttr("norm", &norm));
    OP_REQUIRES_OK(context, context->GetAttr("pooling", &pooling));
    encoder_.activation = activation == "relu"        ? Activation::kRelu
                          : activation == "gelu_tanh" ? Activation::kGeluTanh
                                                      : Activation::kGelu;
    encoder_.pre_norm = norm == "pre";
    encoder_.first_token = pooling == "cls";
  }

  void Compute(OpKernelContext* context) override {
    PackedEncoder encoder = encoder_;
    OP_REQUIRES_OK(context, ReadWeights(context, &encoder));
    const Tensor &values = context->input(0), &row_splits = context->input(1);
    OP_REQUIRES_OK(context, WantRank("values", values, 1));
    OP_REQUIRES_OK(context, WantRank("row_splits", row_splits, 1));
    OP_REQUIRES(context, row_splits.NumElements() > 0,
                absl::InvalidArgumentError("row_splits are empty; expected one more than texts"));
    const int64_t num_texts = row_splits.NumElements() - 1;
    const int32_t* const tokens = values.flat<int32_t>().data();
    const int64_t* const splits = row_splits.flat<int64_t>().data();
    const std::string problem = TextsProblem(encoder, tokens, values.NumElements(), splits, num_texts);
    OP_REQUIRES(context, problem.empty(), absl::InvalidArgumentError(problem));

    Tensor* output = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({num_texts, encoder.width}), &output));
    if (num_texts == 0) return;
    float* const encoded = output->flat<float>().data();
    const auto& workers = *context->device()->tensorflow_cpu_worker_threads();
    const std::vector<int64_t> starts = GroupTexts(splits, num_texts, workers.num_threads);
    const auto encode = [&](int64_t first, int64_t last) {
      thread_local InferenceMemory memory;
      for (int64_t group = first; group < last; ++group) {
        EncodeTexts(encoder, tokens, splits, starts[group], starts[group + 1], &memory, encoded);
      }
    };
    const int64_t groups = static_cast<int64_t>(starts.size()) - 1;
    if (groups == 1) return encode(0, 1);
    // One by one: groups take different times, and whoever is free takes the next.
    const auto one_by_one = tensorflow::thread::ThreadPool::SchedulingParams::Fixed(1);
    workers.workers->ParallelFor(groups, one_by_one, encode);
  }

 private:
  static absl::Status ReadWeights(OpKernelContext* context, PackedEncoder* encoder) {
    const Tensor &words = context->input(2), &positions = context->input(3), &embedding_norm = context->input(4);
    const Tensor &vectors = context->input(5), &panels = context->input(6);
    TF_RETURN_IF_ERROR(WantRank("words", words, 2));
    TF_RETURN_IF_ERROR(WantRank("positions", positions, 2));
    TF_RETURN_IF_ERROR(WantRank("vectors", vectors, 2));
    encoder->num_words = words.dim_size(0);
    encoder->width = words.dim_size(1);
    encoder->num_positions = positions.dim_size(0);
    encoder->num_blocks = vectors.dim_size(0);
    if (encoder->width == 0 || encoder->width % encoder->heads != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("words are ", encoder->width, " wide; expected a multiple of heads = ", encoder->heads));
    }
    constexpr bool kBytes = std::is_same_v<T, int8_t>;
    const BlockLayout layout(encoder->width, encoder->intermediate, kBytes);
    TF_RETURN_IF_ERROR(WantShape("positions", positions, TensorShape({encoder->num_positions, encoder->width})));
    TF_RETURN_IF_ERROR(WantShape("embedding_norm", embedding_norm, TensorShape({2, encoder->width})));
    TF_RETURN_IF_ERROR(WantShape("vectors", vectors, TensorShape({encoder->num_blocks, layout.num_vectors})));
    TF_RETURN_IF_ERROR(WantShape("panels", panels, TensorShape({encoder->num_blocks, layout.num_panels})));
    encoder->words = words.flat<float>().data();
    encoder->positions = positions.flat<float>().data();
    encoder->embedding_norm = embedding_norm.flat<float>().data();
    encoder->vectors = vectors.flat<float>().data();
    if constexpr (kBytes) {
      encoder->bytes = panels.flat<int8_t>().data();
    } else {
      encoder->floats = panels.flat<float>().data();
    }
    return absl::OkStatus();
  }

  PackedEncoder encoder_{};
};

REGISTER_KERNEL_BUILDER(Name("DpsrPackedEncoder").Device(tensorflow::DEVICE_CPU).TypeConstraint<float>("T"),
                        PackedEncoderOp<float>);
REGISTER_KERNEL_BUILDER(Name("DpsrPackedEncoder").Device(tensorflow::DEVICE_CPU).TypeConstraint<int8_t>("T"),
                        PackedEncoderOp<int8_t>);

}  // namespace
}  // namespace dpsr
