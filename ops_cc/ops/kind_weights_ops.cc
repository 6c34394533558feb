#include "absl/status/status.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace dpsr {

using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("DpsrKindWeights")
    .Input("kinds: uint8")
    .Input("values: int32")
    .Input("row_splits: int64")
    .Output("weights: float32")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle vector;
      for (int input = 0; input < 3; ++input) {
        TF_RETURN_IF_ERROR(context->WithRank(context->input(input), 1, &vector));
      }
      context->set_output(0, context->input(1));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Weighs the ids of ragged bags so that each kind of id counts alike, whatever its number of ids in a bag.

kinds: [rows], the kind of each id.
values: [nnz], ids in 0..rows - 1.
row_splits: [B + 1]; bag i is values[row_splits[i]:row_splits[i + 1]].
weights: [nnz], one over the square root of how many ids of the same kind the same bag holds.
)doc");

}  // namespace dpsr
