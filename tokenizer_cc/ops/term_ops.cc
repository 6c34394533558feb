#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tokenizer_cc/ops/shapes.h"

namespace dpsr {
namespace {

using tensorflow::shape_inference::InferenceContext;

// As IdsOfSecondInput, with weights between values and row splits.
absl::Status WeightedIdsOfSecondInput(InferenceContext* context) {
  tensorflow::shape_inference::ShapeHandle shape;
  TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 0, &shape));
  TF_RETURN_IF_ERROR(context->WithRank(context->input(1), 1, &shape));
  tensorflow::shape_inference::DimensionHandle splits;
  TF_RETURN_IF_ERROR(context->Add(context->Dim(shape, 0), 1, &splits));
  const auto ids = context->Vector(InferenceContext::kUnknownDim);
  context->set_output(0, ids);
  context->set_output(1, ids);
  context->set_output(2, context->Vector(splits));
  return absl::OkStatus();
}

}  // namespace

REGISTER_OP("DpsrTermsHandle")
    .Output("tokenizer: resource")
    .Attr("container: string = ''")
    .Attr("shared_name: string = ''")
    .SetIsStateful()
    .SetShapeFn(tensorflow::shape_inference::ScalarShape)
    .Doc(R"doc(
A named term tokenizer of a session, which DpsrTermsLoad fills.

It lives as long as the session's resources. Handles with the same container and shared_name are the same tokenizer: name
it by the content of its model file, so that a name never stands for two contents.

tokenizer: the handle, a scalar.
container: the resource container; the default one if empty.
shared_name: the name of the resource; the name of the node if empty.
)doc");

REGISTER_OP("DpsrAnonymousTerms")
    .Output("tokenizer: resource")
    .SetIsStateful()
    .SetShapeFn(tensorflow::shape_inference::ScalarShape)
    .Doc(R"doc(
A new term tokenizer, which DpsrTermsLoad fills and which lives as long as its handle.

tokenizer: the handle, a scalar; whatever holds it, a function that captured it for instance, keeps the tokenizer.
)doc");

REGISTER_OP("DpsrTermsLoad")
    .Input("tokenizer: resource")
    .Input("model_path: string")
    .SetIsStateful()
    .SetShapeFn(TwoScalars)
    .Doc(R"doc(
Reads a model file into a term tokenizer.

The content is checked here: a file that is damaged, or of a newer version, is an error now and not at the first text.
All tokenizers of a process whose model files have equal content share one copy of it. A tokenizer may be loaded again,
but not with other content.

tokenizer: a handle, a scalar.
model_path: the path of a terms.model, a scalar; as an asset of a SavedModel it moves with it.
)doc");

REGISTER_OP("DpsrTerms")
    .Input("tokenizer: resource")
    .Input("texts: string")
    .Output("values: int32")
    .Output("row_splits: int64")
    .SetShapeFn(IdsOfSecondInput)
    .Doc(R"doc(
Turns texts into ids of the terms of a catalogue.

The ids of text i are values[row_splits[i]:row_splits[i + 1]], in the order of the text, as often as terms occur, followed
by those of bigrams where the vocabulary has bigrams; terms that the vocabulary lacks are left out. They are the same as
those of TermTokenizer.encode_batch for the same bytes. Large batches are shared out among the threads of the session.

tokenizer: a loaded term tokenizer, a scalar.
texts: [B], any bytes; invalid UTF-8 is read as U+FFFD.
values: [nnz], ids.
row_splits: [B + 1].
)doc");

REGISTER_OP("DpsrQueryTerms")
    .Input("tokenizer: resource")
    .Input("texts: string")
    .Output("values: int32")
    .Output("weights: float")
    .Output("row_splits: int64")
    .SetShapeFn(WeightedIdsOfSecondInput)
    .Doc(R"doc(
Turns queries into weighted ids of the terms of a catalogue.

As DpsrTerms, and a word that the vocabulary lacks falls back on those that it may be a misspelling of. The same as
TermTokenizer.encode_queries for the same bytes.

tokenizer: a loaded term tokenizer, a scalar.
texts: [B], any bytes; invalid UTF-8 is read as U+FFFD.
values: [nnz], ids.
weights: [nnz], in (0, 1]; 1 for a term of the text.
row_splits: [B + 1].
)doc");

REGISTER_OP("DpsrQueryKeys")
    .Input("texts: string")
    .Output("keys: int64")
    .SetShapeFn([](InferenceContext* context) {
      tensorflow::shape_inference::ShapeHandle texts;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 1, &texts));
      context->set_output(0, texts);
      return absl::OkStatus();
    })
    .Doc(R"doc(
What stands for each query wherever equal queries are counted together: a hash of its terms without the spaces between.

texts: [B], any bytes; invalid UTF-8 is read as U+FFFD.
keys: [B]; 0 for a text without a term.
)doc");

}  // namespace dpsr
