#include <vector>

#include "absl/status/status.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace dpsr {

using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

namespace {

// Checks the ranks of what both ops read; `hidden` is the shape [T, H].
absl::Status ReadInputs(InferenceContext* context, ShapeHandle* hidden) {
  ShapeHandle tokens, words;
  std::vector<ShapeHandle> found;
  TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 1, &tokens));
  TF_RETURN_IF_ERROR(context->WithRank(context->input(1), 1, &found.emplace_back()));
  TF_RETURN_IF_ERROR(context->Merge(context->input(2), context->Vector(2), &found.emplace_back()));
  TF_RETURN_IF_ERROR(context->input("weights", &found));
  TF_RETURN_IF_ERROR(context->WithRank(found[0], 2, &words));
  *hidden = context->Matrix(context->Dim(tokens, 0), context->Dim(words, 1));
  return absl::OkStatus();
}

}  // namespace

REGISTER_OP("DpsrTextEncoder")
    .Input("tokens: int32")
    .Input("row_splits: int64")
    .Input("seed: int64")
    .Input("weights: N * float32")
    .Output("hidden: float32")
    .Output("activations: float32")
    .Attr("N: int >= 5")
    .Attr("heads: int >= 1")
    .Attr("activation: {'gelu', 'gelu_tanh', 'relu'}")
    .Attr("norm: {'post', 'pre'}")
    .Attr("norm_epsilon: float")
    .Attr("position_offset: int >= 0")
    .Attr("dropout: float")
    .Attr("round_operands: bool")
    .Attr("differentiable: bool")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle hidden;
      TF_RETURN_IF_ERROR(ReadInputs(context, &hidden));
      context->set_output(0, hidden);
      context->set_output(1, context->UnknownShapeOfRank(1));
      return absl::OkStatus();
    })
    .Doc(R"doc(
The last hidden states of a transformer encoder over sequences without padding.

tokens: [T], rows of the words.
row_splits: [B + 1], of the sequences.
seed: [2], which decides what is dropped.
weights: words [V, H], positions [P, H], type embedding [H], scale and offset [H] of the embeddings' norm (pre: of the
  last one), and of every block: kernel and bias of queries, keys and values [H, 3H], of the attention's output [H, H],
  scale and offset of its norm [H], kernel and bias of the intermediate layer [H, F] and of the output [F, H], scale and
  offset of its norm [H].
hidden: [T, H].
activations: what the gradient needs; [0] if not differentiable.
heads: a divisor of H.
norm: layer norms after the residual sums (post) or before each part of a block (pre).
position_offset: row of the positions of a sequence's first token.
dropout: share of what is dropped, in [0, 1).
round_operands: to bfloat16 in the products, where the processor has such products.
)doc");

REGISTER_OP("DpsrTextEncoderGradient")
    .Input("tokens: int32")
    .Input("row_splits: int64")
    .Input("seed: int64")
    .Input("weights: N * float32")
    .Input("activations: float32")
    .Input("gradient: float32")
    .Output("weight_gradients: N * float32")
    .Attr("N: int >= 5")
    .Attr("heads: int >= 1")
    .Attr("activation: {'gelu', 'gelu_tanh', 'relu'}")
    .Attr("norm: {'post', 'pre'}")
    .Attr("norm_epsilon: float")
    .Attr("position_offset: int >= 0")
    .Attr("dropout: float")
    .Attr("round_operands: bool")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle hidden;
      TF_RETURN_IF_ERROR(ReadInputs(context, &hidden));
      std::vector<ShapeHandle> weights, gradient;
      TF_RETURN_IF_ERROR(context->input("gradient", &gradient));
      TF_RETURN_IF_ERROR(context->Merge(hidden, gradient[0], &hidden));
      TF_RETURN_IF_ERROR(context->input("weights", &weights));
      return context->set_output("weight_gradients", weights);
    })
    .Doc(R"doc(
The gradient of DpsrTextEncoder; it has the same bits for any number of threads.

activations: of the same tokens, weights and seed.
gradient: [T, H], by the hidden states.
weight_gradients: by each of the weights.
)doc");

}  // namespace dpsr
