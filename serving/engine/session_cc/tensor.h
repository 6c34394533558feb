// Tensors of TensorFlow's C API with an owner.

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

// What TensorFlow reports; codes are those of gRPC, and the text may hold any bytes of a request.
class Error : public std::runtime_error {
 public:
  Error(TF_Code code, const std::string& message) : std::runtime_error(message), code_(code) {}

  TF_Code code() const { return code_; }

 private:
  TF_Code code_;
};

// A tensor, owned; shared by copies. Immutable once it is filled.
class Tensor {
 public:
  // Takes a tensor over.
  explicit Tensor(TF_Tensor* tensor) : tensor_(tensor, TF_DeleteTensor) {}

  // Room for numbers, to be filled through `data`.
  static Tensor OfNumbers(TF_DataType type, const std::vector<int64_t>& dims);

  // Copies strings.
  static Tensor OfStrings(const std::vector<int64_t>& dims, const std::vector<std::string_view>& strings);

  TF_Tensor* get() const { return tensor_.get(); }
  TF_DataType type() const { return TF_TensorType(get()); }
  void* data() const { return TF_TensorData(get()); }
  size_t bytes() const { return TF_TensorByteSize(get()); }
  std::vector<int64_t> dims() const;
  // Elements of the dimensions but the first; of all of a scalar.
  int64_t row_elements() const;
  // An element of a tensor of strings.
  std::string_view string(int64_t place) const;

 private:
  std::shared_ptr<TF_Tensor> tensor_;
};

// How many elements a tensor of these dimensions has.
int64_t Elements(const std::vector<int64_t>& dims);

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_SESSION_CC_TENSOR_H_
