#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tokenizer_cc/ops/shapes.h"

namespace dpsr {

using tensorflow::shape_inference::InferenceContext;

REGISTER_OP("DpsrTokenizerHandle")
    .Output("tokenizer: resource")
    .Attr("container: string = ''")
    .Attr("shared_name: string = ''")
    .SetIsStateful()
    .SetShapeFn(tensorflow::shape_inference::ScalarShape)
    .Doc(R"doc(
A named tokenizer of a session, which DpsrTokenizerLoad fills.

It lives as long as the session's resources. Handles with the same container and shared_name are the same tokenizer: name
it by the content of its model file, so that a name never stands for two contents.

tokenizer: the handle, a scalar.
container: the resource container; the default one if empty.
shared_name: the name of the resource; the name of the node if empty.
)doc");

REGISTER_OP("DpsrAnonymousTokenizer")
    .Output("tokenizer: resource")
    .SetIsStateful()
    .SetShapeFn(tensorflow::shape_inference::ScalarShape)
    .Doc(R"doc(
A new tokenizer, which DpsrTokenizerLoad fills and which lives as long as its handle.

tokenizer: the handle, a scalar; whatever holds it, a function that captured it for instance, keeps the tokenizer.
)doc");

REGISTER_OP("DpsrTokenizerLoad")
    .Input("tokenizer: resource")
    .Input("model_path: string")
    .SetIsStateful()
    .SetShapeFn(TwoScalars)
    .Doc(R"doc(
Reads a model file into a tokenizer.

The content is checked here: a file that is damaged, or of a newer version, is an error now and not at the first text.
All tokenizers of a process whose model files have equal content share one copy of it. A tokenizer may be loaded again,
but not with other content.

tokenizer: a handle, a scalar.
model_path: the path of a tokenizer.model, a scalar; as an asset of a SavedModel it moves with it.
)doc");

REGISTER_OP("DpsrTokenize")
    .Input("tokenizer: resource")
    .Input("texts: string")
    .Output("values: int32")
    .Output("row_splits: int64")
    .SetShapeFn(IdsOfSecondInput)
    .Doc(R"doc(
Turns texts into bags of token ids.

The ids of text i are values[row_splits[i]:row_splits[i + 1]]: its words, then its bigrams, then the letter trigrams of
its Latin words. They are the same as those of the Python class Tokenizer for the same bytes. Large batches are
shared out among the threads of the session.

tokenizer: a loaded tokenizer, a scalar.
texts: [B], any bytes; invalid UTF-8 is read as U+FFFD.
values: [nnz], ids from 1 on.
row_splits: [B + 1].
)doc");

REGISTER_OP("DpsrTokenizeWithFile")
    .Input("texts: string")
    .Output("values: int32")
    .Output("row_splits: int64")
    .Attr("model_path: string")
    .Attr("fingerprint: string")
    .SetShapeFn([](InferenceContext* context) { return IdsOfTexts(context, 0); })
    .Doc(R"doc(
Turns texts into bags of token ids as DpsrTokenize, with a model file of the machine where it runs.

texts: [B], any bytes.
values: [nnz], ids from 1 on.
row_splits: [B + 1].
model_path: the path of a tokenizer.model; it is read when the op runs first.
fingerprint: of its content.
)doc");

}  // namespace dpsr
