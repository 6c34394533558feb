#include "absl/status/status.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace dpsr {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("DpsrSequences")
    .Input("values: int32")
    .Input("starts: int64")
    .Input("ends: int64")
    .Output("tokens: int32")
    .Output("row_splits: int64")
    .Attr("first: int")
    .Attr("last: int")
    .Attr("length: int >= 2")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle each, rows;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 1, &each));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(1), 1, &rows));
      TF_RETURN_IF_ERROR(context->Merge(rows, context->input(2), &rows));
      DimensionHandle splits;
      TF_RETURN_IF_ERROR(context->Add(context->Dim(rows, 0), 1, &splits));
      context->set_output(0, context->Vector(context->UnknownDim()));
      context->set_output(1, context->Vector(splits));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Puts a token before and one behind parts of a row of tokens, which are cut where they are too long.

values: [nnz].
starts: [B]; part i is values[starts[i]:ends[i]].
ends: [B], at least starts.
tokens: of all sequences, one after the other.
row_splits: [B + 1]; sequence i is tokens[row_splits[i]:row_splits[i + 1]].
first: token before each part.
last: token behind it.
length: most tokens of a sequence.
)doc");

}  // namespace dpsr
