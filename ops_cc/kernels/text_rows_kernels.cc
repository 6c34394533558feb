// Texts as arrays of bytes, which a file can hold and a graph can map, and rows of them as strings.

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
using tensorflow::tstring;

class TextRowsOp : public OpKernel {
 public:
  explicit TextRowsOp(OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    for (int input = 0; input < 3; ++input) {
      OP_REQUIRES(
          context, context->input(input).dims() == 1,
          absl::InvalidArgumentError(absl::StrCat("input ", input, " has shape ",
                                                  context->input(input).shape().DebugString(), "; expected a vector")));
    }
    const auto bytes = context->input(0).vec<uint8_t>();
    const auto offsets = context->input(1).vec<int64_t>();
    const auto rows = context->input(2).vec<int32_t>();
    OP_REQUIRES(context, offsets.size() > 0,
                absl::InvalidArgumentError("offsets are empty; expected one more than texts"));
    Tensor* output = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, context->input(2).shape(), &output));
    auto texts = output->vec<tstring>();
    const char* const data = reinterpret_cast<const char*>(bytes.data());
    const int64_t count = offsets.size() - 1;
    for (int64_t i = 0; i < rows.size(); ++i) {
      const int64_t row = rows(i);
      OP_REQUIRES(
          context, row >= 0 && row < count,
          absl::InvalidArgumentError(absl::StrCat("rows[", i, "] = ", row, " is not a row of ", count, " texts")));
      const int64_t begin = offsets(row), end = offsets(row + 1);
      OP_REQUIRES(context, 0 <= begin && begin <= end && end <= bytes.size(),
                  absl::InvalidArgumentError(
                      absl::StrCat("text ", row, " lies from byte ", begin, " to ", end, " of ", bytes.size())));
      texts(i).assign(data + begin, static_cast<size_t>(end - begin));
    }
  }
};

REGISTER_KERNEL_BUILDER(Name("DpsrTextRows").Device(tensorflow::DEVICE_CPU), TextRowsOp);

}  // namespace
}  // namespace dpsr
