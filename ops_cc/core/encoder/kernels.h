// The elementwise arithmetic of a transformer encoder and its gradients, compiled for several instruction sets; the
// best one is chosen at run time. Training and inference share it.
//
// As in dense.h: no TensorFlow, no threads, no memory of its own. Rows are handled one by one, so a row's result has
// the same bits whatever rows are handled with it.

#ifndef DPSR_OPS_CC_CORE_ENCODER_KERNELS_H_
#define DPSR_OPS_CC_CORE_ENCODER_KERNELS_H_

#include <cstdint>
#include <vector>

namespace dpsr {

// x Phi(x) by the error function; its approximation by tanh; max(x, 0).
enum class Activation { kGelu, kGeluTanh, kRelu };

// What is dropped, as a function of a key and a position alone: forward and backward find the same without storing it.
struct Dropout {
  uint64_t key = 0;
  float rate = 0.0f;  // in [0, 1); 0 drops nothing

  // Another stream, of another place in the network.
  Dropout Of(uint64_t place) const;
};

// All functions of one instruction set. Pointers need no alignment. In-place calls are allowed where two arguments have
// the same shape.
struct EncoderKernels {
  const char* name;

  // output = (input - mean) / sqrt(variance + epsilon) * scale + offset, over each row of [rows, width].
  void (*layer_norm)(const float* input, int64_t rows, int64_t width, const float* scale, const float* offset,
                     float epsilon, float* output);
  // From the gradient by the output to that by the input, which is added to `by_input`; adds to the gradients by scale
  // and offset.
  void (*layer_norm_gradient)(const float* input, const float* by_output, int64_t rows, int64_t width,
                              const float* scale, float epsilon, float* by_input, float* by_scale, float* by_offset);

  // output = activation(input).
  void (*activate)(Activation activation, const float* input, int64_t size, float* output);
  // output = activation(input); gradient *= its derivative.
  void (*activation_gradient)(Activation activation, const float* input, int64_t size, float* output, float* gradient);

  // scores = softmax(scale * scores) over the first `columns` of each row, 0 from there to `stride`, a multiple of
  // kBlockStride (dense.h). columns > 0.
  void (*softmax)(float* scores, int64_t rows, int64_t columns, int64_t stride, float scale);
  // gradient = scale * p * (gradient - sum(p * gradient)), over rows of `stride`.
  void (*softmax_gradient)(const float* probabilities, int64_t rows, int64_t stride, float scale, float* gradient);

  // values[i, j] = 0 where dropped, else values[i, j] / (1 - rate); row i is number first_row + i of the stream.
  // output may be values.
  void (*drop)(const Dropout& dropout, uint64_t first_row, const float* values, int64_t rows, int64_t width,
               float* output);

  // sum += values, over `size`.
  void (*add)(const float* values, int64_t size, float* sum);
};

// The functions for the processor this runs on; the same at every call.
const EncoderKernels& Encoder();

// Those of every instruction set that this processor has, for tests.
std::vector<const EncoderKernels*> AllEncoderKernels();

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_ENCODER_KERNELS_H_
