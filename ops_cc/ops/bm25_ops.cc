#include "absl/status/status.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace dpsr {
namespace {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

// The eleven arrays of an index, and the query's three after them; returns the number of queries.
constexpr int kArrays = 11;

absl::Status IndexAndQueries(InferenceContext* context, DimensionHandle* queries) {
  ShapeHandle each;
  for (int input = 0; input < kArrays; ++input) {
    const bool matrix = input == 4 || input == 8 || input == 9;
    TF_RETURN_IF_ERROR(context->WithRank(context->input(input), matrix ? 2 : 1, &each));
    DimensionHandle two;
    if (matrix) TF_RETURN_IF_ERROR(context->WithValue(context->Dim(each, 1), 2, &two));
  }
  ShapeHandle terms, weights, row_splits, both;
  TF_RETURN_IF_ERROR(context->WithRank(context->input(kArrays), 1, &terms));
  TF_RETURN_IF_ERROR(context->WithRank(context->input(kArrays + 1), 1, &row_splits));
  TF_RETURN_IF_ERROR(context->WithRank(context->input(kArrays + 2), 1, &weights));
  TF_RETURN_IF_ERROR(context->Merge(terms, weights, &both));
  return context->Subtract(context->Dim(row_splits, 0), 1, queries);
}

}  // namespace

REGISTER_OP("DpsrBm25Build")
    .Input("offsets: num_fields * int64")
    .Input("terms: num_fields * int32")
    .Input("weights: float32")
    .Input("priors: float32")
    .Input("idf: float32")
    .Input("earlier: earlier_types")
    .Output("rows: int32")
    .Output("places: int32")
    .Output("ordered_priors: float32")
    .Output("range_starts: int32")
    .Output("range_values: float32")
    .Output("term_idf: float32")
    .Output("term_lists: int32")
    .Output("list_weights: float32")
    .Output("list_starts: int64")
    .Output("entries: uint16")
    .Output("postings: uint16")
    .Output("range_lengths: float32")
    .Output("mean_length: float32")
    .Attr("num_fields: int >= 1")
    .Attr("num_terms: int >= 0")
    .Attr("k1: float")
    .Attr("b: float")
    .Attr("average_length: float = 0")
    .Attr("earlier_types: list(type) >= 0")
    .SetShapeFn([](InferenceContext* context) {
      for (int output = 0; output <= kArrays; ++output) {
        const bool matrix = output == 4 || output == 8 || output == 9;
        context->set_output(output, matrix ? context->Matrix(InferenceContext::kUnknownDim, 2)
                                           : context->Vector(InferenceContext::kUnknownDim));
      }
      context->set_output(kArrays + 1, context->Scalar());
      return absl::OkStatus();
    })
    .Doc(R"doc(
Builds the inverted index of DpsrBm25Search; core/bm25/index.h has the layout.

offsets: [N + 1] of every field; the terms of document i are terms[offsets[i]:offsets[i + 1]].
terms: [nnz] of every field, in 0..num_terms - 1, as often as they occur.
weights: [num_fields], tf that one occurrence in the field counts as.
priors: [N], added to the score of a document that is found, or [0].
idf: [num_terms] of a larger catalogue that this is a part of, or [0].
earlier: nothing, or the postings of documents that have no term in any field: rows, places, ordered_priors, range_starts,
  range_values, term_idf, term_lists, list_weights, list_starts, entries, postings and range_lengths of an index, the
  document of each of its rows (int32, ascending; -1 for none), and its term for each of the num_terms (int32; -1 for
  none).
rows: [N], documents in the order of the index.
places: [N], the inverse.
ordered_priors: [N] in that order, or [0].
range_starts: [R + 1], where ranges of documents of one length start.
range_values: [R, 2], k1 * (1 - b + b * length / average length), and the largest prior.
term_idf: [V].
term_lists: [V + 1], first list of every term.
list_weights: [L], tf of the documents of a list.
list_starts: [L + 1, 2], first entry, and first of the postings, of every list.
entries: [E, 2], a range and the number of its documents - 1.
postings: [P], 16-bit offsets of documents within their range, or bitmaps of it.
range_lengths: [R], length of the documents of a range.
mean_length: [], average length of the documents.
num_terms: V.
average_length: of a larger catalogue, or 0.
)doc");

// The eleven arrays of an index, as DpsrBm25Build gives them.
#define DPSR_INDEX_INPUTS             \
  .Input("rows: int32")               \
      .Input("places: int32")         \
      .Input("priors: float32")       \
      .Input("range_starts: int32")   \
      .Input("range_values: float32") \
      .Input("idf: float32")          \
      .Input("term_lists: int32")     \
      .Input("list_weights: float32") \
      .Input("list_starts: int64")    \
      .Input("entries: uint16")       \
      .Input("postings: uint16")

REGISTER_OP("DpsrBm25Count")
DPSR_INDEX_INPUTS.Input("kept: bool")
    .Output("counts: int32")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle each;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(kArrays), 1, &each));
      context->set_output(0, context->input(5));
      return absl::OkStatus();
    })
    .Doc(R"doc(
How many of some documents have each term.

rows, places, priors, range_starts, range_values, idf, term_lists, list_weights, list_starts, entries, postings: the
  index that DpsrBm25Build has built.
kept: [N], by row, the documents that count.
counts: [V].
)doc");

REGISTER_OP("DpsrBm25Search")
DPSR_INDEX_INPUTS.Input("terms: int32")
    .Input("row_splits: int64")
    .Input("weights: float32")
    .Input("k: int32")
    .Input("allowed: uint8")
    .Input("removed: uint8")
    .Output("found_rows: int32")
    .Output("scores: float32")
    .SetShapeFn([](InferenceContext* context) {
      DimensionHandle queries, k;
      TF_RETURN_IF_ERROR(IndexAndQueries(context, &queries));
      ShapeHandle each;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(kArrays + 3), 0, &each));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(kArrays + 4), 2, &each));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(kArrays + 5), 1, &each));
      TF_RETURN_IF_ERROR(context->MakeDimForScalarInput(kArrays + 3, &k));
      context->set_output(0, context->Matrix(queries, k));
      context->set_output(1, context->Matrix(queries, k));
      return absl::OkStatus();
    })
    .Doc(R"doc(
The k best documents of queries by BM25, exactly.

rows, places, priors, range_starts, range_values, idf, term_lists, list_weights, list_starts, entries, postings: the
  index that DpsrBm25Build has built.
terms: [nnz], ids of terms; negative ones are unknown.
row_splits: [B + 1]; query i is terms[row_splits[i]:row_splits[i + 1]].
weights: [nnz], of the terms.
k: [], documents wanted, at least 1.
allowed: [B, bytes] or [1, bytes], bitmaps of the rows that may be found (bit row % 8 of byte row / 8); [0, 0] for all.
removed: [bytes], a bitmap of rows that may not, or [0].
found_rows: [B, k], by descending score and ascending row; -1 where fewer documents have a term of the query.
scores: [B, k]; 0 for rows of -1.
)doc");

REGISTER_OP("DpsrBm25Score")
DPSR_INDEX_INPUTS.Input("terms: int32")
    .Input("row_splits: int64")
    .Input("weights: float32")
    .Input("candidates: int32")
    .Output("scores: float32")
    .SetShapeFn([](InferenceContext* context) {
      DimensionHandle queries;
      TF_RETURN_IF_ERROR(IndexAndQueries(context, &queries));
      ShapeHandle candidates;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(kArrays + 3), 2, &candidates));
      TF_RETURN_IF_ERROR(context->Merge(queries, context->Dim(candidates, 0), &queries));
      context->set_output(0, context->Matrix(queries, context->Dim(candidates, 1)));
      return absl::OkStatus();
    })
    .Doc(R"doc(
The scores of given documents by BM25, with the bits that DpsrBm25Search gives them.

rows, places, priors, range_starts, range_values, idf, term_lists, list_weights, list_starts, entries, postings: the
  index that DpsrBm25Build has built.
terms: [nnz], ids of terms; negative ones are unknown.
row_splits: [B + 1]; query i is terms[row_splits[i]:row_splits[i + 1]].
weights: [nnz], of the terms.
candidates: [B, n], rows in any order; -1 for none.
scores: [B, n]; 0 for a document without a term of the query and for rows of -1.
)doc");

}  // namespace dpsr
