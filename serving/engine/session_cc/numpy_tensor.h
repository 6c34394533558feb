// Tensors and NumPy arrays. The caller holds the GIL.

#ifndef DPSR_SERVING_ENGINE_SESSION_CC_NUMPY_TENSOR_H_
#define DPSR_SERVING_ENGINE_SESSION_CC_NUMPY_TENSOR_H_

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <vector>

#include "serving/engine/session_cc/tensor.h"

namespace dpsr::serving {

// NumPy array of a tensor: a view of numbers, an object array of bytes for strings.
pybind11::array Array(const Tensor& tensor);

// Concatenation of one input's arrays along the batch dimension. Throws TypeError and ValueError.
Tensor Join(const std::vector<pybind11::array>& arrays, TF_DataType type);

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_SESSION_CC_NUMPY_TENSOR_H_
