#include "absl/status/status.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace dpsr {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("DpsrGroupLoss")
    .Input("heads: float32")
    .Input("vectors: float32")
    .Input("query_rows: int32")
    .Input("item_rows: int32")
    .Input("corrections: float32")
    .Input("clicked: bool")
    .Input("hard_splits: int64")
    .Input("row_weights: float32")
    .Output("loss: float32")
    .Output("head_gradient: float32")
    .Output("vector_gradient: float32")
    .Attr("kind: {'hinge', 'softmax', 'three_part'}")
    .Attr("group_size: int >= 0")
    .Attr("margin: float")
    .Attr("temperature: float")
    .Attr("thresholds: list(float) = [0.0, 0.0, 0.0]")
    .Attr("attention_temperature: float")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle heads, vectors, each;
      DimensionHandle same;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 3, &heads));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(1), 2, &vectors));
      TF_RETURN_IF_ERROR(context->Merge(context->Dim(heads, 2), context->Dim(vectors, 1), &same));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(2), 1, &each));
      TF_RETURN_IF_ERROR(context->Merge(context->Dim(heads, 0), context->Dim(each, 0), &same));
      for (int input : {3, 4, 6, 7}) TF_RETURN_IF_ERROR(context->WithRank(context->input(input), 1, &each));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(5), 2, &each));
      context->set_output(0, context->Scalar());
      context->set_output(1, heads);
      context->set_output(2, vectors);
      return absl::OkStatus();
    })
    .Doc(R"doc(
The loss of a step over its batch, random and hard negatives, and its gradient, in one pass without a matrix of scores.

The score of an item for a query is the soft dot product of its heads. A positive of the same group is a negative of a
row if neither its item nor its query is the row's; a random item if it is not the row's item. The gradient has the same
bits for any number of threads.

heads: [B, m, d]; B is a multiple of group_size.
vectors: [B + R + H, d]: the positives, the random negatives, and hard negatives of single rows.
query_rows: [B].
item_rows: [B + R].
corrections: [B + R], taken off every score of an item; or [0].
clicked: [B, B + R], true where an item is not a negative of a row; or [0, 0].
hard_splits: [B + 1]; row i has the hard negatives hard_splits[i]..hard_splits[i + 1]; or [0], where H is 0.
row_weights: [B], factors of the rows' losses; or [0].
loss: [], the mean of the weighted losses over the B rows.
head_gradient: [B, m, d], of the loss.
vector_gradient: [B + R + H, d], of the loss.
kind: max(0, margin - positive + negative), summed over negatives; or the cross-entropy of the positive among itself and
  its negatives; or the three-part hinge.
group_size: rows that are each other's batch negatives; 0 for none.
margin: of the hinge.
temperature: of the softmax.
thresholds: of three_part: least positive, most of a hard negative, most of any other item.
attention_temperature: of the soft dot product.
)doc");

}  // namespace dpsr
