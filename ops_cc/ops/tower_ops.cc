#include <vector>

#include "absl/status/status.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace dpsr {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

namespace {

// All parts have one shape [B, d].
absl::Status MergeParts(InferenceContext* context, ShapeHandle* part) {
  std::vector<ShapeHandle> parts;
  TF_RETURN_IF_ERROR(context->input("parts", &parts));
  *part = context->UnknownShapeOfRank(2);
  for (const ShapeHandle& each : parts) TF_RETURN_IF_ERROR(context->Merge(*part, each, part));
  return absl::OkStatus();
}

}  // namespace

REGISTER_OP("DpsrTower")
    .Input("parts: P * float32")
    .Input("kernels: L * float32")
    .Input("biases: L * float32")
    .Output("vectors: float32")
    .Output("hidden: H * float32")
    .Output("inverse_norms: float32")
    .Attr("P: int >= 1")
    .Attr("L: int >= 1")
    .Attr("H: int >= 0")
    .Attr("outputs: int >= 1")
    .Attr("residual: bool")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle part, each;
      TF_RETURN_IF_ERROR(MergeParts(context, &part));
      int outputs, hidden;
      TF_RETURN_IF_ERROR(context->GetAttr("outputs", &outputs));
      TF_RETURN_IF_ERROR(context->GetAttr("H", &hidden));
      const DimensionHandle rows = context->Dim(part, 0), heads = context->MakeDim(outputs);
      std::vector<ShapeHandle> kernels, biases, of_hidden;
      TF_RETURN_IF_ERROR(context->input("kernels", &kernels));
      TF_RETURN_IF_ERROR(context->input("biases", &biases));
      for (size_t layer = 0; layer < kernels.size(); ++layer) {
        TF_RETURN_IF_ERROR(context->WithRank(kernels[layer], 2, &kernels[layer]));
        TF_RETURN_IF_ERROR(context->WithRank(biases[layer], 1, &each));
        DimensionHandle width;
        TF_RETURN_IF_ERROR(context->Merge(context->Dim(kernels[layer], 1), context->Dim(each, 0), &width));
        if (layer + 1 < kernels.size()) of_hidden.push_back(context->Matrix(rows, width));
      }
      if (hidden != static_cast<int>(of_hidden.size())) {
        return absl::InvalidArgumentError("H is to be one less than L");
      }
      TF_RETURN_IF_ERROR(context->set_output("vectors", {context->MakeShape({rows, heads, context->Dim(part, 1)})}));
      TF_RETURN_IF_ERROR(context->set_output("hidden", of_hidden));
      return context->set_output("inverse_norms", {context->Matrix(rows, heads)});
    })
    .Doc(R"doc(
Maps the embedded inputs of a tower to unit vectors: ReLU layers, a linear one, and the division by the norm.

parts: [B, d] each; beside each other they are the input of the first layer.
kernels: [inputs, width] of every layer; the last has a width of outputs * d.
biases: [width] of every layer.
vectors: [B, outputs, d], of length 1.
hidden: [B, width], what every layer but the last puts out.
inverse_norms: [B, outputs], of what was divided by its norm.
outputs: vectors of a row.
residual: adds the sum of the parts to every vector before its division.
)doc");

REGISTER_OP("DpsrTowerGradient")
    .Input("parts: P * float32")
    .Input("kernels: L * float32")
    .Input("hidden: H * float32")
    .Input("vectors: float32")
    .Input("inverse_norms: float32")
    .Input("gradient: float32")
    .Output("part_gradients: P * float32")
    .Output("kernel_gradients: L * float32")
    .Output("bias_gradients: L * float32")
    .Attr("P: int >= 1")
    .Attr("L: int >= 1")
    .Attr("H: int >= 0")
    .Attr("residual: bool")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle part, vectors;
      TF_RETURN_IF_ERROR(MergeParts(context, &part));
      std::vector<ShapeHandle> parts, kernels, biases, given;
      TF_RETURN_IF_ERROR(context->input("parts", &parts));
      TF_RETURN_IF_ERROR(context->input("kernels", &kernels));
      for (ShapeHandle& kernel : kernels) {
        TF_RETURN_IF_ERROR(context->WithRank(kernel, 2, &kernel));
        biases.push_back(context->Vector(context->Dim(kernel, 1)));
      }
      TF_RETURN_IF_ERROR(context->input("vectors", &given));
      TF_RETURN_IF_ERROR(context->WithRank(given[0], 3, &vectors));
      TF_RETURN_IF_ERROR(context->input("gradient", &given));
      TF_RETURN_IF_ERROR(context->Merge(vectors, given[0], &vectors));
      TF_RETURN_IF_ERROR(context->set_output("part_gradients", std::vector<ShapeHandle>(parts.size(), part)));
      TF_RETURN_IF_ERROR(context->set_output("kernel_gradients", kernels));
      return context->set_output("bias_gradients", biases);
    })
    .Doc(R"doc(
The gradient of DpsrTower; it has the same bits for any number of threads.

parts: as of DpsrTower.
kernels: as of DpsrTower.
hidden: its output.
vectors: its output.
inverse_norms: its output.
gradient: [B, outputs, d], by the vectors.
part_gradients: [B, d] each.
kernel_gradients: [inputs, width] of every layer.
bias_gradients: [width] of every layer.
residual: as of DpsrTower.
)doc");

}  // namespace dpsr
