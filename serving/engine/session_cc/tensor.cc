#include "serving/engine/session_cc/tensor.h"

#include <cstdlib>
#include <functional>
#include <numeric>

#include "tensorflow/core/platform/ctstring.h"

namespace dpsr::serving {
namespace {

constexpr size_t kAlignment = 64;

void FreeStrings(void* data, size_t size, void* /*argument*/) {
  auto* const strings = static_cast<TF_TString*>(data);
  for (size_t i = 0; i < size / sizeof(TF_TString); ++i) TF_TString_Dealloc(&strings[i]);
  std::free(data);
}

}  // namespace

int64_t Elements(const std::vector<int64_t>& dims) {
  return std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<>());
}

Tensor Tensor::OfNumbers(TF_DataType type, const std::vector<int64_t>& dims) {
  const size_t size = static_cast<size_t>(Elements(dims)) * TF_DataTypeSize(type);
  return Tensor(TF_AllocateTensor(type, dims.data(), static_cast<int>(dims.size()), size));
}

Tensor Tensor::OfStrings(const std::vector<int64_t>& dims, const std::vector<std::string_view>& strings) {
  const size_t size = strings.size() * sizeof(TF_TString);
  const size_t room = (size / kAlignment + 1) * kAlignment;
  auto* const data = static_cast<TF_TString*>(std::aligned_alloc(kAlignment, room));
  if (data == nullptr) throw Error(TF_RESOURCE_EXHAUSTED, "no memory for " + std::to_string(size) + " bytes of input");
  for (size_t i = 0; i < strings.size(); ++i) {
    TF_TString_Init(&data[i]);
    TF_TString_Copy(&data[i], strings[i].data(), strings[i].size());
  }
  return Tensor(TF_NewTensor(TF_STRING, dims.data(), static_cast<int>(dims.size()), data, size, FreeStrings, nullptr));
}

std::vector<int64_t> Tensor::dims() const {
  std::vector<int64_t> dims(static_cast<size_t>(TF_NumDims(get())));
  for (size_t i = 0; i < dims.size(); ++i) dims[i] = TF_Dim(get(), static_cast<int>(i));
  return dims;
}

int64_t Tensor::row_elements() const {
  int64_t elements = 1;
  for (int i = 1; i < TF_NumDims(get()); ++i) elements *= TF_Dim(get(), i);
  return elements;
}

std::string_view Tensor::string(int64_t index) const {
  const TF_TString* const string = static_cast<const TF_TString*>(data()) + index;
  return {TF_TString_GetDataPointer(string), TF_TString_GetSize(string)};
}

}  // namespace dpsr::serving
