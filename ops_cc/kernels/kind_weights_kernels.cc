// How much every id of a bag weighs where words, bigrams and trigrams are to count alike.

#include <array>
#include <cmath>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
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
    OP_REQUIRES_OK(context, Weigh(context->input(0), values, splits, output->flat<float>().data()));
  }

 private:
  static absl::Status Weigh(const Tensor& kind_of, const Tensor& ids, const Tensor& row_splits, float* weights) {
    const auto kinds = kind_of.flat<uint8_t>();
    const auto values = ids.flat<int32_t>();
    const auto splits = row_splits.flat<int64_t>();
    const int64_t bags = splits.size() - 1;
    if (splits(0) != 0 || splits(bags) != values.size()) {
      return absl::InvalidArgumentError(absl::StrCat("row_splits go from ", splits(0), " to ", splits(bags),
                                                     "; expected 0 to ", values.size(), ", the number of values"));
    }
    for (int64_t bag = 0; bag < bags; ++bag) {
      if (splits(bag) > splits(bag + 1)) {
        return absl::InvalidArgumentError(absl::StrCat("row_splits decrease at bag ", bag));
      }
    }
    std::array<int32_t, 256> counts{};
    for (int64_t bag = 0; bag < bags; ++bag) {
      const int64_t first = splits(bag), last = splits(bag + 1);
      for (int64_t i = first; i < last; ++i) {
        if (static_cast<uint64_t>(static_cast<int64_t>(values(i))) >= static_cast<uint64_t>(kinds.size())) {
          return absl::InvalidArgumentError(
              absl::StrCat("values[", i, "] = ", values(i), " has no kind: there are ", kinds.size(), " ids"));
        }
        ++counts[kinds(values(i))];
      }
      for (int64_t i = first; i < last; ++i) {
        weights[i] = 1.0f / std::sqrt(static_cast<float>(counts[kinds(values(i))]));
      }
      for (int64_t i = first; i < last; ++i) counts[kinds(values(i))] = 0;
    }
    return absl::OkStatus();
  }
};

REGISTER_KERNEL_BUILDER(Name("DpsrKindWeights").Device(tensorflow::DEVICE_CPU), KindWeightsOp);

}  // namespace
}  // namespace dpsr
