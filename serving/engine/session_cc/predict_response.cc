#include "serving/engine/session_cc/predict_response.h"

#include <string_view>

#include "serving/engine/native/wire.h"

namespace dpsr::serving {
namespace {

// Tags of the written fields: number << 3 | wire type.
constexpr char kOutputs = 0x0a, kModelSpec = 0x12;                                      // PredictResponse
constexpr char kKey = 0x0a, kValue = 0x12;                                              // an entry of a map
constexpr char kDtype = 0x08, kShape = 0x12, kTensorContent = 0x22, kStringVal = 0x42;  // TensorProto
constexpr char kName = 0x0a, kVersion = 0x12, kSignatureName = 0x1a;                    // ModelSpec
constexpr char kInt64Value = 0x08;                                                      // google.protobuf.Int64Value
constexpr char kDim = 0x12, kSize = 0x08;                                               // TensorShapeProto, its Dim

size_t VarintSize(uint64_t value) {
  size_t size = 1;
  for (; value >= 0x80; value >>= 7) ++size;
  return size;
}

std::string Shape(const Tensor& tensor, const Rows& rows) {
  std::vector<int64_t> dims = tensor.dims();
  if (!dims.empty()) dims[0] = rows.end - rows.begin;
  std::string shape, dim;
  for (const int64_t size : dims) {
    dim.clear();
    if (size != 0) {  // proto3 omits default values
      dim.push_back(kSize);
      AppendVarint(static_cast<uint64_t>(size), &dim);
    }
    AppendBytes(kDim, dim, &shape);
  }
  return shape;
}

// Appends a map entry whose value is a TensorProto: `head`, then `values_size` bytes that `append` writes.
template <typename Append>
void AppendEntry(const std::string& alias, const std::string& head, size_t values_size, const Append& append,
                 std::string* out) {
  const size_t value_size = head.size() + values_size;
  out->push_back(kOutputs);
  AppendVarint(2 + VarintSize(alias.size()) + alias.size() + VarintSize(value_size) + value_size, out);
  AppendBytes(kKey, alias, out);
  out->push_back(kValue);
  AppendVarint(value_size, out);
  out->append(head);
  append();
}

void AppendOutput(const std::string& alias, const Tensor& tensor, const Rows& rows, std::string* out) {
  std::string head{kDtype};
  AppendVarint(static_cast<uint64_t>(tensor.type()), &head);
  AppendBytes(kShape, Shape(tensor, rows), &head);
  const int64_t begin = rows.begin * tensor.row_elements(), end = rows.end * tensor.row_elements();
  if (tensor.type() == TF_STRING) {
    size_t size = 0;
    for (int64_t i = begin; i < end; ++i) {
      const size_t length = tensor.string(i).size();
      size += 1 + VarintSize(length) + length;
    }
    const auto append = [&] {
      for (int64_t i = begin; i < end; ++i) AppendBytes(kStringVal, tensor.string(i), out);
    };
    AppendEntry(alias, head, size, append, out);
    return;
  }
  const size_t element = TF_DataTypeSize(tensor.type());
  if (element == 0) {
    throw Error(TF_UNIMPLEMENTED, "output " + alias + " has a type without an encoding in TensorProto");
  }
  const std::string_view content(static_cast<const char*>(tensor.data()) + static_cast<size_t>(begin) * element,
                                 static_cast<size_t>(end - begin) * element);
  const size_t size = content.empty() ? 0 : 1 + VarintSize(content.size()) + content.size();
  const auto append = [&] {
    if (!content.empty()) AppendBytes(kTensorContent, content, out);
  };
  AppendEntry(alias, head, size, append, out);
}

}  // namespace

bool HaveRows(const std::vector<Tensor>& tensors, int64_t rows) {
  for (const Tensor& tensor : tensors) {
    if (TF_NumDims(tensor.get()) == 0 || TF_Dim(tensor.get(), 0) != rows) return false;
  }
  return true;
}

std::string ModelSpecMessage(const std::string& model, int64_t version, const std::string& signature) {
  std::string spec, number;
  if (version != 0) {
    number.push_back(kInt64Value);
    AppendVarint(static_cast<uint64_t>(version), &number);
  }
  if (!model.empty()) AppendBytes(kName, model, &spec);
  AppendBytes(kVersion, number, &spec);
  if (!signature.empty()) AppendBytes(kSignatureName, signature, &spec);
  return spec;
}

std::string PredictResponse(const std::string& model_spec, const std::vector<std::string>& aliases,
                            const std::vector<Tensor>& tensors, const std::vector<Rows>& rows) {
  std::string response;
  for (size_t i = 0; i < tensors.size(); ++i) AppendOutput(aliases[i], tensors[i], rows[i], &response);
  AppendBytes(kModelSpec, model_spec, &response);
  return response;
}

}  // namespace dpsr::serving
