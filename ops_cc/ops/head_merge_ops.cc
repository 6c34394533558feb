#include "absl/status/status.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace dpsr {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("DpsrMergeHeads")
    .Input("rows: int32")
    .Input("scores: float32")
    .Output("merged_rows: int32")
    .Output("merged_scores: float32")
    .Output("heads: int32")
    .Attr("k: int >= 1")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle rows, scores, both;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 3, &rows));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(1), 3, &scores));
      TF_RETURN_IF_ERROR(context->Merge(rows, scores, &both));
      int k = 0;
      TF_RETURN_IF_ERROR(context->GetAttr("k", &k));
      const DimensionHandle batch = context->Dim(both, 0);
      for (int output = 0; output < 3; ++output) context->set_output(output, context->Matrix(batch, k));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Merges the lists that the heads of each query retrieved into its k best rows, each once.

A row that several heads found counts with its largest score. Results are ordered by descending score, ties by lower
row; the head is the one of the largest score, the first of equal ones.

rows: [B, m, n], the rows that each head found, distinct within a head. Negative entries, wherever they stand, are no
  rows and are passed over.
scores: [B, m, n], their scores: not increasing along each list and not NaN, but for the negative entries.
merged_rows: [B, k]; where a query has fewer than k distinct rows, the rest is -1.
merged_scores: [B, k]; the rest is the lowest finite float32.
heads: [B, k], in 0..m - 1; the rest is -1.
k: results of a query.
)doc");

}  // namespace dpsr
