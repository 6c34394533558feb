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

// Checks the ranks of values, row_splits and weights, every `step`th input from `first` on; gives the number of bags.
absl::Status CheckBags(InferenceContext* context, int first, int step, DimensionHandle* bags) {
  ShapeHandle vector;
  for (int input = 0; input < 3; ++input) {
    TF_RETURN_IF_ERROR(context->WithRank(context->input(first + input * step), 1, &vector));
  }
  return context->Subtract(context->Dim(context->input(first + step), 0), 1, bags);
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
      TF_RETURN_IF_ERROR(CheckBags(context, 1, 1, &bags));
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
      TF_RETURN_IF_ERROR(CheckBags(context, 2, 1, &bags));
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

REGISTER_OP("DpsrEmbeddingBags")
    .Input("tables: N * resource")
    .Input("values: N * int32")
    .Input("row_splits: N * int64")
    .Input("weights: N * float32")
    .Output("bags: N * float32")
    .Attr("N: int >= 1")
    .Attr("combiners: list({'sum', 'mean', 'sqrtn'})")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* context) {
      int count;
      TF_RETURN_IF_ERROR(context->GetAttr("N", &count));
      for (int i = 0; i < count; ++i) {
        ShapeHandle table;
        DimensionHandle bags;
        TF_RETURN_IF_ERROR(MatrixOfHandle(context, i, &table));
        TF_RETURN_IF_ERROR(CheckBags(context, count + i, count, &bags));
        context->set_output(i, context->Matrix(bags, context->Dim(table, 1)));
      }
      return absl::OkStatus();
    })
    .Doc(R"doc(
DpsrEmbeddingBag for several lists of bags at once, each with its table; a table may come more than once.

tables: a float32 variable [rows, d] for every list.
values: as of DpsrEmbeddingBag.
row_splits: as of DpsrEmbeddingBag.
weights: as of DpsrEmbeddingBag.
bags: as of DpsrEmbeddingBag.
combiners: of every list.
)doc");

REGISTER_OP("DpsrEmbeddingBagsAdagrad")
    .Input("tables: T * resource")
    .Input("accumulators: T * resource")
    .Input("values: N * int32")
    .Input("row_splits: N * int64")
    .Input("weights: N * float32")
    .Input("gradients: N * float32")
    .Input("learning_rate: float32")
    .Attr("T: int >= 1")
    .Attr("N: int >= 1")
    .Attr("tables_of_bags: list(int)")
    .Attr("combiners: list({'sum', 'mean', 'sqrtn'})")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* context) {
      int tables, count;
      TF_RETURN_IF_ERROR(context->GetAttr("T", &tables));
      TF_RETURN_IF_ERROR(context->GetAttr("N", &count));
      ShapeHandle table, accumulator, gradient;
      for (int i = 0; i < tables; ++i) {
        TF_RETURN_IF_ERROR(MatrixOfHandle(context, i, &table));
        TF_RETURN_IF_ERROR(MatrixOfHandle(context, tables + i, &accumulator));
        TF_RETURN_IF_ERROR(context->Merge(table, accumulator, &table));
      }
      for (int i = 0; i < count; ++i) {
        DimensionHandle bags;
        TF_RETURN_IF_ERROR(CheckBags(context, 2 * tables + i, count, &bags));
        TF_RETURN_IF_ERROR(context->WithRank(context->input(2 * tables + 3 * count + i), 2, &gradient));
        TF_RETURN_IF_ERROR(context->Merge(context->Dim(gradient, 0), bags, &bags));
      }
      return context->WithRank(context->input(2 * tables + 4 * count), 0, &gradient);
    })
    .Doc(R"doc(
DpsrEmbeddingBagAdagrad for several tables at once. The gradient of a row is the sum over all bags of its table.

tables: a float32 variable [rows, d] each.
accumulators: a float32 variable [rows, d], above 0, of every table.
values: as of DpsrEmbeddingBag.
row_splits: as of DpsrEmbeddingBag.
weights: as of DpsrEmbeddingBag.
gradients: [B, d], of the loss by the bags of every list.
learning_rate: [].
tables_of_bags: the number of the table of every list of bags.
combiners: of every list.
)doc");

REGISTER_OP("DpsrAdagrad")
    .Input("variables: N * resource")
    .Input("accumulators: N * resource")
    .Input("gradients: N * float32")
    .Input("learning_rate: float32")
    .Attr("N: int >= 1")
    .Attr("epsilon: float")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle scalar;
      return context->WithRank(context->input(context->num_inputs() - 1), 0, &scalar);
    })
    .Doc(R"doc(
One step of AdaGrad on some variables: accumulator += gradient^2, then
variable -= learning_rate * gradient / sqrt(accumulator + epsilon).

variables: float32 variables.
accumulators: float32 variables of the same shapes, not negative.
gradients: of the same shapes.
learning_rate: [].
epsilon: keeps the root above 0.
)doc");

}  // namespace dpsr
