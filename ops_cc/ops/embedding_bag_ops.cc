#include <vector>

#include "absl/status/status.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace dpsr {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeAndType;
using tensorflow::shape_inference::ShapeHandle;

namespace {

// The shape of the variable behind a resource input: a matrix, or unknown.
absl::Status MatrixOfHandle(InferenceContext* context, int input, ShapeHandle* matrix) {
  const std::vector<ShapeAndType>* const known = context->input_handle_shapes_and_types(input);
  *matrix = context->UnknownShapeOfRank(2);
  if (known == nullptr || known->empty()) return absl::OkStatus();
  return context->WithRank((*known)[0].shape, 2, matrix);
}

// Checks the ranks of values, row_splits and weights, inputs `first` on; gives the number of bags.
absl::Status CheckBags(InferenceContext* context, int first, DimensionHandle* bags) {
  ShapeHandle vector;
  for (int input = first; input < first + 3; ++input) {
    TF_RETURN_IF_ERROR(context->WithRank(context->input(input), 1, &vector));
  }
  return context->Subtract(context->Dim(context->input(first + 1), 0), 1, bags);
}

}  // namespace

REGISTER_OP("DpsrEmbeddingBag")
    .Input("table: resource")
    .Input("values: int32")
    .Input("row_splits: int64")
    .Input("weights: float32")
    .Output("bags: float32")
    .Attr("combiner: {'sum', 'mean', 'sqrtn'}")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle table;
      DimensionHandle bags;
      TF_RETURN_IF_ERROR(MatrixOfHandle(context, 0, &table));
      TF_RETURN_IF_ERROR(CheckBags(context, 1, &bags));
      context->set_output(0, context->Matrix(bags, context->Dim(table, 1)));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Looks up ragged bags of ids in a table, and combines the rows of each bag.

table: a float32 variable [rows, d].
values: [nnz], ids in 0..rows - 1.
row_splits: [B + 1]; bag i is values[row_splits[i]:row_splits[i + 1]].
weights: [nnz], the weight of each occurrence; or [0], where all weigh 1.
bags: [B, d], the weighted sum of the rows, divided by the sum of the weights (mean) or by the square root of the sum of
  their squares (sqrtn); zeros for an empty bag.
)doc");

REGISTER_OP("DpsrEmbeddingBagAdagrad")
    .Input("table: resource")
    .Input("accumulator: resource")
    .Input("values: int32")
    .Input("row_splits: int64")
    .Input("weights: float32")
    .Input("gradient: float32")
    .Input("learning_rate: float32")
    .Attr("combiner: {'sum', 'mean', 'sqrtn'}")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle table, accumulator, both, gradient, scalar;
      DimensionHandle bags, dimension;
      TF_RETURN_IF_ERROR(MatrixOfHandle(context, 0, &table));
      TF_RETURN_IF_ERROR(MatrixOfHandle(context, 1, &accumulator));
      TF_RETURN_IF_ERROR(context->Merge(table, accumulator, &both));
      TF_RETURN_IF_ERROR(CheckBags(context, 2, &bags));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(5), 2, &gradient));
      TF_RETURN_IF_ERROR(context->Merge(context->Dim(gradient, 0), bags, &bags));
      TF_RETURN_IF_ERROR(context->Merge(context->Dim(gradient, 1), context->Dim(both, 1), &dimension));
      return context->WithRank(context->input(6), 0, &scalar);
    })
    .Doc(R"doc(
One step of sparse AdaGrad on the rows that occur in some bags, given the gradient by what DpsrEmbeddingBag returned.

The gradient of a row is the sum over its occurrences, in their order: the result has the same bits for any number of
threads. accumulator += gradient^2, then table -= learning_rate * gradient / sqrt(accumulator).

table: a float32 variable [rows, d].
accumulator: a float32 variable [rows, d], above 0.
values: [nnz], as they were looked up.
row_splits: [B + 1], as they were looked up.
weights: [nnz] or [0], as they were looked up.
gradient: [B, d], of the loss by the bags.
learning_rate: [].
combiner: as the bags were looked up.
)doc");

}  // namespace dpsr
