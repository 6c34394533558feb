// Work of unequal parts, shared out among the threads of TensorFlow.

#ifndef DPSR_OPS_CC_KERNELS_ONE_BY_ONE_H_
#define DPSR_OPS_CC_KERNELS_ONE_BY_ONE_H_

#include <cstdint>

#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/lib/core/threadpool.h"

namespace dpsr {

// Calls function(first, last) for parts of 0 .. count - 1: queries, and parts of an index, take different times, and
// whoever is free takes the next.
template <typename Function>
void OneByOne(tensorflow::OpKernelContext* context, int64_t count, Function function) {
  if (count == 1) return function(0, 1);
  context->device()->tensorflow_cpu_worker_threads()->workers->ParallelFor(
      count, tensorflow::thread::ThreadPool::SchedulingParams::Fixed(1), function);
}

}  // namespace dpsr

#endif  // DPSR_OPS_CC_KERNELS_ONE_BY_ONE_H_
