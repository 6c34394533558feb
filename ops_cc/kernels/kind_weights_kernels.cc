// How much every id of a bag weighs where words, bigrams and trigrams are to count alike.

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ops_cc/core/embedding_bag.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace dpsr {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

class KindWeightsOp : public OpKernel {
 public:
  explicit KindWeightsOp(OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    const Tensor& values = context->input(1);
    const Tensor& splits = context->input(2);
    Tensor* output = nullptr;
    OP_REQUIRES(
        context, values.dims() == 1 && splits.dims() == 1 && splits.NumElements() > 0,
        absl::InvalidArgumentError(absl::StrCat("values have shape ", values.shape().DebugString(), ", row_splits ",
                                                splits.shape().DebugString(), "; expected [nnz] and [B + 1]")));
    OP_REQUIRES_OK(context, context->allocate_output(0, values.shape(), &output));
    const auto kinds = context->input(0).flat<uint8_t>();
    const std::string problem =
        WeighByKind(kinds.data(), kinds.size(), values.flat<int32_t>().data(), splits.flat<int64_t>().data(),
                    splits.NumElements() - 1, values.NumElements(), output->flat<float>().data());
    OP_REQUIRES(context, problem.empty(), absl::InvalidArgumentError(problem));
  }
};

REGISTER_KERNEL_BUILDER(Name("DpsrKindWeights").Device(tensorflow::DEVICE_CPU), KindWeightsOp);

}  // namespace
}  // namespace dpsr
