#include "absl/status/status.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace dpsr {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("DpsrPackedEncoder")
    .Input("values: int32")
    .Input("row_splits: int64")
    .Input("words: float32")
    .Input("positions: float32")
    .Input("embedding_norm: float32")
    .Input("vectors: float32")
    .Input("panels: T")
    .Output("encoded: float32")
    .Attr("T: {float32, int8}")
    .Attr("heads: int >= 1")
    .Attr("intermediate: int >= 1")
    .Attr("activation: {'gelu', 'gelu_tanh', 'relu'}")
    .Attr("norm: {'post', 'pre'}")
    .Attr("norm_epsilon: float")
    .Attr("position_offset: int >= 0")
    .Attr("pooling: {'cls', 'mean'}")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle values, row_splits, each;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 1, &values));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(1), 1, &row_splits));
      DimensionHandle width = context->UnknownDim(), blocks = context->UnknownDim(), texts;
      for (int input : {2, 3, 4}) {
        TF_RETURN_IF_ERROR(context->WithRank(context->input(input), 2, &each));
        TF_RETURN_IF_ERROR(context->Merge(width, context->Dim(each, 1), &width));
      }
      for (int input : {5, 6}) {
        TF_RETURN_IF_ERROR(context->WithRank(context->input(input), 2, &each));
        TF_RETURN_IF_ERROR(context->Merge(blocks, context->Dim(each, 0), &blocks));
      }
      TF_RETURN_IF_ERROR(context->Subtract(context->Dim(row_splits, 0), 1, &texts));
      context->set_output(0, context->Matrix(texts, width));
      return absl::OkStatus();
    })
    .Doc(R"doc(
A transformer encoder from tokens to one vector of each text: embeddings, blocks and pooling, without padding.

Matrices [inputs, outputs] lie in panels of 32 outputs, filled up with zeros: as float32 [inputs, 32] each, as int8
[inputs / 4, 32, 4]. core/encoder/inference.h has the places of all matrices and vectors of a block.

values: [nnz], ids of tokens.
row_splits: [B + 1]; text i is values[row_splits[i]:row_splits[i + 1]].
words: [V, H], embeddings.
positions: [P, H], embeddings of the positions and of the token type together.
embedding_norm: [2, H], scale and offset of the layer norm after the embeddings (norm = pre: after the last block).
vectors: [L, n], biases, scales and layer norms of each block.
panels: [L, m], the matrices of each block; int8 ones are multiplied by tokens that are quantised as they come.
encoded: [B, H], zeros for a text without tokens.
heads: attention heads.
intermediate: width between the two layers of the feed-forward part.
activation: of the feed-forward part.
norm: whether layer norms come after or before each part of a block.
norm_epsilon: added to the variance.
position_offset: row of the positions of a text's first token.
pooling: the first token's state, or the mean of all.
)doc");

}  // namespace dpsr
