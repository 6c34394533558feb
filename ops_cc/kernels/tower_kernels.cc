// The ops around core/tower.h: checks, memory and threads.

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ops_cc/core/tower.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/util/work_sharder.h"

namespace dpsr {
namespace {

using tensorflow::OpInputList;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::OpOutputList;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// A row takes about as many nanoseconds as this divides its multiply-adds by.
constexpr int64_t kMultiplyAddsOfNanosecond = 50;

template <typename Work>
void RunSharded(OpKernelContext* context, int64_t total, int64_t multiply_adds, const Work& work) {
  const auto& workers = *context->device()->tensorflow_cpu_worker_threads();
  tensorflow::Shard(workers.num_threads, workers.workers, total, 1 + multiply_adds / kMultiplyAddsOfNanosecond, work);
}

// Reads parts and kernels.
absl::Status ReadLayers(OpKernelContext* context, int64_t outputs, Tower* tower) {
  OpInputList parts, kernels;
  TF_RETURN_IF_ERROR(context->input_list("parts", &parts));
  TF_RETURN_IF_ERROR(context->input_list("kernels", &kernels));
  const TensorShape& shape = parts[0].shape();
  for (const Tensor& part : parts) {
    if (part.dims() != 2 || part.shape() != shape) {
      return absl::InvalidArgumentError(absl::StrCat("parts have shapes ", shape.DebugString(), " and ",
                                                     part.shape().DebugString(), "; expected [B, d] of all"));
    }
    tower->parts.push_back(part.flat<float>().data());
  }
  tower->rows = shape.dim_size(0);
  tower->dimension = shape.dim_size(1);
  tower->outputs = outputs;
  int64_t inputs = tower->dimension * parts.size();
  for (int layer = 0; layer < kernels.size(); ++layer) {
    const Tensor& kernel = kernels[layer];
    const int64_t last_width = outputs * tower->dimension;
    if (kernel.dims() != 2 || kernel.dim_size(0) != inputs ||
        (layer + 1 == kernels.size() && kernel.dim_size(1) != last_width)) {
      return absl::InvalidArgumentError(absl::StrCat("the kernel of layer ", layer, " has shape ",
                                                     kernel.shape().DebugString(), "; expected [", inputs, ", width]",
                                                     ", with a width of ", last_width, " in the last layer"));
    }
    inputs = kernel.dim_size(1);
    tower->widths.push_back(inputs);
    tower->kernels.push_back(kernel.flat<float>().data());
  }
  return absl::OkStatus();
}

class TowerOp : public OpKernel {
 public:
  explicit TowerOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("outputs", &outputs_));
    OP_REQUIRES_OK(context, context->GetAttr("residual", &residual_));
  }

  void Compute(OpKernelContext* context) override {
    Tower tower{};
    OP_REQUIRES_OK(context, ReadLayers(context, outputs_, &tower));
    tower.residual = residual_;
    OpInputList biases;
    OP_REQUIRES_OK(context, context->input_list("biases", &biases));
    for (int64_t layer = 0; layer < tower.Layers(); ++layer) {
      OP_REQUIRES(context, biases[layer].shape() == TensorShape({tower.widths[layer]}),
                  absl::InvalidArgumentError(absl::StrCat("the bias of layer ", layer, " has shape ",
                                                          biases[layer].shape().DebugString(), "; expected [",
                                                          tower.widths[layer], "]")));
      tower.biases.push_back(biases[layer].flat<float>().data());
    }
    OpOutputList hidden;
    OP_REQUIRES_OK(context, context->output_list("hidden", &hidden));
    OP_REQUIRES(context, hidden.size() + 1 == tower.Layers(),
                absl::InvalidArgumentError(
                    absl::StrCat("H = ", hidden.size(), " for ", tower.Layers(), " layers; expected one less")));
    Tensor* output = nullptr;
    for (int layer = 0; layer < hidden.size(); ++layer) {
      OP_REQUIRES_OK(context, hidden.allocate(layer, TensorShape({tower.rows, tower.widths[layer]}), &output));
      tower.hidden.push_back(output->flat<float>().data());
    }
    OP_REQUIRES_OK(context,
                   context->allocate_output(0, TensorShape({tower.rows, tower.outputs, tower.dimension}), &output));
    tower.vectors = output->flat<float>().data();
    OP_REQUIRES_OK(context,
                   context->allocate_output(1 + hidden.size(), TensorShape({tower.rows, tower.outputs}), &output));
    tower.inverse_norms = output->flat<float>().data();
    thread_local Tower::Packed packed;
    Tower::Packed& kernels = packed;
    tower.PackKernels(&kernels);
    RunSharded(context, tower.rows, tower.RowCost(),
               [&](int64_t first, int64_t last) { tower.Forward(kernels, first, last); });
  }

 private:
  int64_t outputs_;
  bool residual_;
};

class TowerGradientOp : public OpKernel {
 public:
  explicit TowerGradientOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("residual", &residual_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor *vectors, *inverse_norms, *gradient;
    OP_REQUIRES_OK(context, context->input("vectors", &vectors));
    OP_REQUIRES_OK(context, context->input("inverse_norms", &inverse_norms));
    OP_REQUIRES_OK(context, context->input("gradient", &gradient));
    OP_REQUIRES(context, vectors->dims() == 3,
                absl::InvalidArgumentError(absl::StrCat("the vectors have shape ", vectors->shape().DebugString(),
                                                        "; expected [B, outputs, d]")));
    Tower tower{};
    OP_REQUIRES_OK(context, ReadLayers(context, vectors->dim_size(1), &tower));
    tower.residual = residual_;
    OP_REQUIRES_OK(context, ReadOutputs(context, *vectors, *inverse_norms, *gradient, &tower));

    std::vector<float*> part_gradients, kernel_gradients, bias_gradients, layer_gradients;
    const TensorShape part({tower.rows, tower.dimension});
    OP_REQUIRES_OK(context, Allocate(context, "part_gradients", std::vector<TensorShape>(tower.parts.size(), part),
                                     &part_gradients));
    std::vector<TensorShape> kernels, biases;
    std::vector<Tensor> layers(tower.Layers());
    for (int64_t layer = 0; layer < tower.Layers(); ++layer) {
      const int64_t width = tower.widths[layer];
      kernels.push_back(TensorShape({tower.InputsOf(layer), width}));
      biases.push_back(TensorShape({width}));
      OP_REQUIRES_OK(context,
                     context->allocate_temp(tensorflow::DT_FLOAT, TensorShape({tower.rows, width}), &layers[layer]));
      layer_gradients.push_back(layers[layer].flat<float>().data());
    }
    OP_REQUIRES_OK(context, Allocate(context, "kernel_gradients", kernels, &kernel_gradients));
    OP_REQUIRES_OK(context, Allocate(context, "bias_gradients", biases, &bias_gradients));

    thread_local Tower::Packed packed, packed_gradients;
    Tower::Packed &transposed = packed, &gradients = packed_gradients;  // of this thread, for others too
    tower.PackTransposed(&transposed);
    gradients.resize(tower.Layers());
    const float* const by_vector = gradient->flat<float>().data();
    RunSharded(context, tower.rows, tower.RowCost(), [&](int64_t first, int64_t last) {
      tower.Backward(transposed, by_vector, first, last, part_gradients, layer_gradients);
    });
    RunSharded(context, tower.Layers(), tower.rows * tower.widths[0], [&](int64_t first, int64_t last) {
      for (int64_t layer = first; layer < last; ++layer) tower.PackLayerGradient(layer, layer_gradients, &gradients);
    });
    const int64_t tasks = tower.NumWeightTasks();
    RunSharded(context, tasks, tower.rows * tower.RowCost() / tasks, [&](int64_t first, int64_t last) {
      for (int64_t task = first; task < last; ++task) {
        tower.RunWeightTask(task, gradients, layer_gradients, kernel_gradients, bias_gradients);
      }
    });
  }

 private:
  static absl::Status ReadOutputs(OpKernelContext* context, const Tensor& vectors, const Tensor& inverse_norms,
                                  const Tensor& gradient, Tower* tower) {
    const TensorShape expected({tower->rows, tower->outputs, tower->dimension});
    if (vectors.shape() != expected || gradient.shape() != expected ||
        inverse_norms.shape() != TensorShape({tower->rows, tower->outputs})) {
      return absl::InvalidArgumentError(
          absl::StrCat("vectors have shape ", vectors.shape().DebugString(), ", inverse_norms ",
                       inverse_norms.shape().DebugString(), ", the gradient ", gradient.shape().DebugString(),
                       "; expected ", expected.DebugString(), ", its first two dimensions, and the same"));
    }
    OpInputList hidden;
    TF_RETURN_IF_ERROR(context->input_list("hidden", &hidden));
    if (hidden.size() + 1 != tower->Layers()) {
      return absl::InvalidArgumentError(
          absl::StrCat("H = ", hidden.size(), " for ", tower->Layers(), " layers; expected one less"));
    }
    // Only Forward writes to what follows.
    const auto data = [](const Tensor& tensor) { return const_cast<float*>(tensor.flat<float>().data()); };
    for (int layer = 0; layer < hidden.size(); ++layer) {
      if (hidden[layer].shape() != TensorShape({tower->rows, tower->widths[layer]})) {
        return absl::InvalidArgumentError(absl::StrCat("hidden ", layer, " has shape ",
                                                       hidden[layer].shape().DebugString(), "; expected [", tower->rows,
                                                       ",", tower->widths[layer], "]"));
      }
      tower->hidden.push_back(data(hidden[layer]));
    }
    tower->vectors = data(vectors);
    tower->inverse_norms = data(inverse_norms);
    return absl::OkStatus();
  }

  static absl::Status Allocate(OpKernelContext* context, const char* name, const std::vector<TensorShape>& shapes,
                               std::vector<float*>* data) {
    OpOutputList outputs;
    TF_RETURN_IF_ERROR(context->output_list(name, &outputs));
    for (size_t i = 0; i < shapes.size(); ++i) {
      Tensor* output = nullptr;
      TF_RETURN_IF_ERROR(outputs.allocate(static_cast<int>(i), shapes[i], &output));
      data->push_back(output->flat<float>().data());
    }
    return absl::OkStatus();
  }

  bool residual_;
};

REGISTER_KERNEL_BUILDER(Name("DpsrTower").Device(tensorflow::DEVICE_CPU), TowerOp);
REGISTER_KERNEL_BUILDER(Name("DpsrTowerGradient").Device(tensorflow::DEVICE_CPU), TowerGradientOp);

}  // namespace
}  // namespace dpsr
