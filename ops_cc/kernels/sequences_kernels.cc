// Sequences with special tokens around them: checks and copies.

#include <algorithm>
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
using tensorflow::TensorShape;

// Special tokens of a sequence.
constexpr int64_t kMarks = 2;

class SequencesOp : public OpKernel {
 public:
  explicit SequencesOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("first", &first_));
    OP_REQUIRES_OK(context, context->GetAttr("last", &last_));
    OP_REQUIRES_OK(context, context->GetAttr("length", &length_));
  }

  void Compute(OpKernelContext* context) override {
    for (int input = 0; input < 3; ++input) {
      OP_REQUIRES(
          context, context->input(input).dims() == 1,
          absl::InvalidArgumentError(absl::StrCat("input ", input, " has shape ",
                                                  context->input(input).shape().DebugString(), "; expected a vector")));
    }
    const auto values = context->input(0).vec<int32_t>();
    const auto starts = context->input(1).vec<int64_t>(), ends = context->input(2).vec<int64_t>();
    OP_REQUIRES(context, starts.size() == ends.size(),
                absl::InvalidArgumentError(
                    absl::StrCat("there are ", starts.size(), " starts and ", ends.size(), " ends; expected as many")));
    const int64_t rows = starts.size();
    Tensor *tokens = nullptr, *row_splits = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(1, TensorShape({rows + 1}), &row_splits));
    auto splits = row_splits->vec<int64_t>();
    splits(0) = 0;
    for (int64_t row = 0; row < rows; ++row) {
      OP_REQUIRES(context, 0 <= starts(row) && starts(row) <= ends(row) && ends(row) <= values.size(),
                  absl::InvalidArgumentError(absl::StrCat("part ", row, " lies from ", starts(row), " to ", ends(row),
                                                          " of ", values.size(), " values")));
      splits(row + 1) = splits(row) + kMarks + std::min(ends(row) - starts(row), length_ - kMarks);
    }
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({splits(rows)}), &tokens));
    int32_t* token = tokens->flat<int32_t>().data();
    for (int64_t row = 0; row < rows; ++row) {
      *token++ = static_cast<int32_t>(first_);
      token = std::copy_n(values.data() + starts(row), splits(row + 1) - splits(row) - kMarks, token);
      *token++ = static_cast<int32_t>(last_);
    }
  }

 private:
  int64_t first_, last_, length_;
};

REGISTER_KERNEL_BUILDER(Name("DpsrSequences").Device(tensorflow::DEVICE_CPU), SequencesOp);

}  // namespace
}  // namespace dpsr
