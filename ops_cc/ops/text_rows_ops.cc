#include "absl/status/status.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace dpsr {

using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("DpsrTextRows")
    .Input("bytes: uint8")
    .Input("offsets: int64")
    .Input("rows: int32")
    .Output("texts: string")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle vector;
      for (int input = 0; input < 3; ++input) {
        TF_RETURN_IF_ERROR(context->WithRank(context->input(input), 1, &vector));
      }
      context->set_output(0, context->input(2));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Takes some texts out of many that lie one after the other in the memory.

bytes: [n], of all texts.
offsets: [texts + 1]; text i is bytes[offsets[i]:offsets[i + 1]].
rows: [N], numbers of texts.
texts: [N].
)doc");

}  // namespace dpsr
