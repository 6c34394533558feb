// Tensors of TensorFlow's C API with shared ownership.

#ifndef DPSR_SERVING_ENGINE_SESSION_CC_TENSOR_H_
#define DPSR_SERVING_ENGINE_SESSION_CC_TENSOR_H_

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tensorflow/c/tf_datatype.h"
#include "tensorflow/c/tf_status.h"
#include "tensorflow/c/tf_tensor.h"

namespace dpsr::serving {

// Error of TensorFlow. The codes are numbered as gRPC's; the text may contain arbitrary bytes of a request.
class Error : public std::runtime_error {
 public:
  Error(TF_Code code, const std::string& message) : std::runtime_error(message), code_(code) {}

  TF_Code code() const { return code_; }

 private:
  TF_Code code_;
};

// Handle of a tensor that copies of the handle share. The tensor is immutable once it is filled.
class Tensor {
 public:
  // Takes the ownership.
  explicit Tensor(TF_Tensor* tensor) : tensor_(tensor, TF_DeleteTensor) {}

  // Uninitialised numbers, to be filled through `data`.
  static Tensor OfNumbers(TF_DataType type, const std::vector<int64_t>& dims);

  // Copies the strings.
  static Tensor OfStrings(const std::vector<int64_t>& dims, const std::vector<std::string_view>& strings);

  TF_Tensor* get() const { return tensor_.get(); }
  TF_DataType type() const { return TF_TensorType(get()); }
  void* data() const { return TF_TensorData(get()); }
  size_t bytes() const { return TF_TensorByteSize(get()); }
  std::vector<int64_t> dims() const;
  // Size of the first dimension; 1 for a scalar.
  int64_t rows() const { return TF_NumDims(get()) == 0 ? 1 : TF_Dim(get(), 0); }
  // Elements of one row; 1 for a scalar.
  int64_t row_elements() const;
  // Element of a tensor of strings.
  std::string_view string(int64_t index) const;

 private:
  std::shared_ptr<TF_Tensor> tensor_;
};

// Number of elements of a tensor of these dimensions.
int64_t Elements(const std::vector<int64_t>& dims);

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_SESSION_CC_TENSOR_H_
