#include "absl/status/status.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace dpsr {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("DpsrFuse")
    .Input("rows: N * int32")
    .Input("scores: N * float32")
    .Input("clicked_rows: int32")
    .Input("clicks: float32")
    .Input("prior_weight: float32")
    .Input("temperature: float32")
    .Output("fused_rows: int32")
    .Output("fused_scores: float32")
    .Output("lists: int32")
    .Output("places: int32")
    .Attr("N: int >= 1")
    .Attr("k: int >= 1")
    .Attr("combine: {'sum', 'first'}")
    .SetShapeFn([](InferenceContext* context) {
      int k = 0, count = 0;
      TF_RETURN_IF_ERROR(context->GetAttr("k", &k));
      TF_RETURN_IF_ERROR(context->GetAttr("N", &count));
      DimensionHandle batch = context->UnknownDim();
      for (int list = 0; list <= count; ++list) {
        const int rows = list < count ? list : 2 * count, scores = list < count ? count + list : 2 * count + 1;
        ShapeHandle of_rows, of_scores, both;
        TF_RETURN_IF_ERROR(context->WithRank(context->input(rows), 2, &of_rows));
        TF_RETURN_IF_ERROR(context->WithRank(context->input(scores), 2, &of_scores));
        TF_RETURN_IF_ERROR(context->Merge(of_rows, of_scores, &both));
        TF_RETURN_IF_ERROR(context->Merge(batch, context->Dim(both, 0), &batch));
      }
      ShapeHandle scalar;
      for (int input = 2 * count + 2; input < 2 * count + 4; ++input) {
        TF_RETURN_IF_ERROR(context->WithRank(context->input(input), 0, &scalar));
      }
      for (int output = 0; output < 4; ++output) context->set_output(output, context->Matrix(batch, k));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Joins the lists that several searchers found for each query into its k best rows, each once.

With clicks of the query, the joined scores s are the prior of counts: a row's score is log(c + prior_weight * p), where c
are its clicks, 0 where none are given, and p is exp(s / temperature) over the sum of that for all rows of the lists.
Results are ordered by descending score, ties by lower row.

rows: [B, n], the rows of each list, distinct within it; n may differ between lists. Negative entries, wherever they
  stand, are no rows and are passed over.
scores: [B, n], their scores, not NaN but for the negative entries.
clicked_rows: [B, c], rows with clicks; those of no list are passed over. c = 0: the joined scores stay as they are.
clicks: [B, c], their decayed counts, not negative.
prior_weight: w above, a scalar above 0.
temperature: of the prior, a scalar above 0.
fused_rows: [B, k]; where a query has fewer than k rows, the rest is -1.
fused_scores: [B, k]; the rest is the lowest finite float32.
lists: [B, k], which lists hold the row: the bit l for the list l; the rest is 0.
places: [B, k], where the row stands in the first list that holds it; the rest is -1.
N: number of lists, at most 31.
k: results of a query.
combine: the score of a row that several lists hold: the sum, or that of the first of them.
)doc");

}  // namespace dpsr
