// Shape functions of the ops that encode texts.

#ifndef DPSR_TOKENIZER_CC_OPS_SHAPES_H_
#define DPSR_TOKENIZER_CC_OPS_SHAPES_H_

#include "tensorflow/core/framework/shape_inference.h"

namespace dpsr {

using tensorflow::shape_inference::InferenceContext;

// Values and row splits of texts that are input number `input`.
inline absl::Status IdsOfTexts(InferenceContext* context, int input) {
  tensorflow::shape_inference::ShapeHandle texts;
  TF_RETURN_IF_ERROR(context->WithRank(context->input(input), 1, &texts));
  tensorflow::shape_inference::DimensionHandle splits;
  TF_RETURN_IF_ERROR(context->Add(context->Dim(texts, 0), 1, &splits));
  context->set_output(0, context->Vector(InferenceContext::kUnknownDim));
  context->set_output(1, context->Vector(splits));
  return absl::OkStatus();
}

// The same behind the handle of a tokenizer.
inline absl::Status IdsOfSecondInput(InferenceContext* context) {
  tensorflow::shape_inference::ShapeHandle handle;
  TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 0, &handle));
  return IdsOfTexts(context, 1);
}

inline absl::Status TwoScalars(InferenceContext* context) {
  tensorflow::shape_inference::ShapeHandle scalar;
  TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 0, &scalar));
  return context->WithRank(context->input(1), 0, &scalar);
}

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_OPS_SHAPES_H_
