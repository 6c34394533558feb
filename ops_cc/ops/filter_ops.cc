#include "absl/status/status.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace dpsr {
namespace {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

// The size of a request, of the wanted values; unknown without a column.
absl::Status Batch(InferenceContext* context, DimensionHandle* batch) {
  int categories = 0, numbers = 0;
  TF_RETURN_IF_ERROR(context->GetAttr("C", &categories));
  TF_RETURN_IF_ERROR(context->GetAttr("R", &numbers));
  *batch = context->UnknownDim();
  const int first = 3 * categories + 3 * numbers;
  for (int input = first; input < first + categories + 2 * numbers; ++input) {
    ShapeHandle wanted;
    TF_RETURN_IF_ERROR(context->WithRank(context->input(input), 1, &wanted));
    TF_RETURN_IF_ERROR(context->Merge(*batch, context->Dim(wanted, 0), batch));
  }
  return absl::OkStatus();
}

absl::Status MatchingRowsShapes(InferenceContext* context) {
  DimensionHandle batch, splits;
  TF_RETURN_IF_ERROR(Batch(context, &batch));
  TF_RETURN_IF_ERROR(context->Add(batch, 1, &splits));
  context->set_output(0, context->Vector(InferenceContext::kUnknownDim));
  context->set_output(1, context->Vector(splits));
  context->set_output(2, context->Vector(batch));
  return absl::OkStatus();
}

absl::Status MatchingBitsShapes(InferenceContext* context) {
  DimensionHandle batch;
  TF_RETURN_IF_ERROR(Batch(context, &batch));
  context->set_output(0, context->Matrix(batch, InferenceContext::kUnknownDim));
  return absl::OkStatus();
}

}  // namespace

// The columns of a catalogue and what is asked of them, of every op that filters.
#define DPSR_REQUEST_INPUTS                 \
  .Input("ids: C * int32")                  \
      .Input("id_splits: C * int32")        \
      .Input("id_rows: C * int32")          \
      .Input("numbers: R * float32")        \
      .Input("sorted_numbers: R * float32") \
      .Input("number_rows: R * int32")      \
      .Input("wanted_ids: C * int32")       \
      .Input("low: R * float32")            \
      .Input("high: R * float32")

REGISTER_OP("DpsrMatchingRows")
DPSR_REQUEST_INPUTS.Input("most: int64")
    .Output("rows: int32")
    .Output("row_splits: int64")
    .Output("matching: int64")
    .Attr("C: int >= 0")
    .Attr("R: int >= 0")
    .SetShapeFn(MatchingRowsShapes)
    .Doc(R"doc(
Lists the items that match all filters of each query, where they are few.

ids: [N], the value of each item in a column filtered by equality, from 1; other numbers for none.
id_splits: [V + 1], the items of value v are id_rows[id_splits[v - 1]:id_splits[v]].
id_rows: the items that have a value, ascending within a value.
numbers: [N], the value of each item in a column filtered by a range; NaN for none.
sorted_numbers: [M], the values that there are, ascending.
number_rows: [M], their items.
wanted_ids: [B], the value that each query asks for; 0 for any, others than 1 .. V match nothing.
low: [B], the least value that each query asks for.
high: [B], the greatest one; no limit where both are infinite.
most: a query that more items match has an empty list, as has one that asks for nothing.
rows: [nnz], the matching items, those of query i at row_splits[i] .. row_splits[i + 1], ascending.
row_splits: [B + 1].
matching: [B], how many items match; above most it is an estimate.
C: columns filtered by equality.
R: columns filtered by a range; C + R >= 1.
)doc");

REGISTER_OP("DpsrMatchingBits")
DPSR_REQUEST_INPUTS.Output("bits: uint8")
    .Attr("C: int >= 0")
    .Attr("R: int >= 0")
    .SetShapeFn(MatchingBitsShapes)
    .Doc(R"doc(
The items that match all filters of each query, as a bitmap.

The inputs are those of DpsrMatchingRows.

bits: [B, ceil(N / 8)]; bit i % 8 of byte i / 8 for item i.
)doc");

REGISTER_OP("DpsrKeepMatching")
DPSR_REQUEST_INPUTS.Input("rows: int32")
    .Output("kept: int32")
    .Attr("C: int >= 0")
    .Attr("R: int >= 0")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle rows;
      TF_RETURN_IF_ERROR(context->WithRankAtLeast(context->input(context->num_inputs() - 1), 1, &rows));
      context->set_output(0, rows);
      return absl::OkStatus();
    })
    .Doc(R"doc(
Keeps those of given items that match all filters of their query.

The other inputs are those of DpsrMatchingRows.

rows: [B, ...], items; negative where there is none.
kept: [B, ...], the same with -1 for those that do not match, and for what is no item.
)doc");

REGISTER_OP("DpsrBestOfRows")
    .Input("vectors: T")
    .Input("heads: float32")
    .Input("rows: int32")
    .Input("row_splits: int64")
    .Output("best_rows: int32")
    .Output("scores: float32")
    .Output("best_heads: int32")
    .Attr("T: {float, int8}")
    .Attr("k: int >= 1")
    .SetShapeFn([](InferenceContext* context) {
      int k = 0;
      TF_RETURN_IF_ERROR(context->GetAttr("k", &k));
      ShapeHandle vectors, heads, rows, splits;
      DimensionHandle width;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 2, &vectors));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(1), 3, &heads));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(2), 1, &rows));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(3), 1, &splits));
      TF_RETURN_IF_ERROR(context->Merge(context->Dim(vectors, 1), context->Dim(heads, 2), &width));
      for (int output = 0; output < 3; ++output) {
        context->set_output(output, context->Matrix(context->Dim(heads, 0), k));
      }
      return absl::OkStatus();
    })
    .Doc(R"doc(
The k best of given rows for each query: all are scored by the largest inner product with any of the query's heads.

vectors: [N, d].
heads: [B, m, d], m >= 1.
rows: [nnz], of the vectors; those of query i at row_splits[i] .. row_splits[i + 1], distinct, in any order.
row_splits: [B + 1].
best_rows: [B, k], best first, ties by lower row; where a query has fewer rows, the rest is -1.
scores: [B, k]; the rest is the lowest finite float32.
best_heads: [B, k], the head of the largest inner product, the first of equal ones; the rest is -1.
k: results of a query.
)doc");

}  // namespace dpsr
