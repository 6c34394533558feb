#include "absl/status/status.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace dpsr {

using tensorflow::shape_inference::InferenceContext;

REGISTER_OP("DpsrMappedArray")
    .Output("array: dtype")
    .Attr("path: string")
    .Attr("offset: int >= 0")
    .Attr("dtype: {uint8, int32, int64, float32}")
    .Attr("shape: shape")
    .SetIsStateful()
    .SetShapeFn(tensorflow::shape_inference::ExplicitShape)
    .Doc(R"doc(
Maps an array of a file into memory, where the op runs: nothing is copied, and processes of a machine share the pages.

array: read-only.
path: a file that does not change while it is mapped.
offset: of the first byte, a multiple of 64.
dtype: of the entries, in this machine's byte order.
shape: fully defined.
)doc");

REGISTER_OP("DpsrTask")
    .Output("device: string")
    .Output("library: string")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* context) {
      context->set_output(0, context->Scalar());
      context->set_output(1, context->Scalar());
      return absl::OkStatus();
    })
    .Doc(R"doc(
Returns the task that runs the op.

device: full name of the op's device.
library: fingerprint of this op library's file, as the process loaded it.
)doc");

REGISTER_OP("DpsrEndTask").SetIsStateful().SetShapeFn(tensorflow::shape_inference::NoOutputs).Doc(R"doc(
Sends SIGTERM to the process that runs it, shortly after the op is done.
)doc");

}  // namespace dpsr
