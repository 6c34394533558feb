#include "serving/engine/session_cc/numpy_tensor.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

namespace py = pybind11;

namespace dpsr::serving {
namespace {

py::dtype NumpyType(TF_DataType type) {
  switch (type) {
    case TF_FLOAT:
      return py::dtype::of<float>();
    case TF_DOUBLE:
      return py::dtype::of<double>();
    case TF_INT32:
      return py::dtype::of<int32_t>();
    case TF_INT64:
      return py::dtype::of<int64_t>();
    case TF_BOOL:
      return py::dtype::of<bool>();
    default:
      break;
  }
  const py::object dtypes = py::module_::import("tensorflow").attr("dtypes");
  return py::dtype::from_args(dtypes.attr("as_dtype")(static_cast<int>(type)).attr("as_numpy_dtype"));
}

std::vector<int64_t> DimsOf(const py::array& array) { return {array.shape(), array.shape() + array.ndim()}; }

}  // namespace

py::array Array(const Tensor& tensor) {
  const std::vector<int64_t> dims = tensor.dims();
  if (tensor.type() == TF_STRING) {
    py::array array(py::dtype("O"), dims);
    auto* const objects = static_cast<PyObject**>(array.mutable_data());
    for (int64_t i = 0; i < array.size(); ++i) {
      const std::string_view text = tensor.string(i);
      Py_XDECREF(std::exchange(objects[i], py::bytes(text.data(), text.size()).release().ptr()));
    }
    return array;
  }
  const py::capsule owner(new Tensor(tensor), [](void* owned) { delete static_cast<Tensor*>(owned); });
  py::array array(NumpyType(tensor.type()), dims, tensor.data(), owner);
  array.attr("setflags")(py::arg("write") = false);
  return array;
}

Tensor Join(const std::vector<py::array>& arrays, TF_DataType type) {
  std::vector<int64_t> dims = DimsOf(arrays.front());
  for (size_t i = 1; i < arrays.size(); ++i) {
    const std::vector<int64_t> more = DimsOf(arrays[i]);
    if (dims.empty() || more.size() != dims.size() || !std::equal(more.begin() + 1, more.end(), dims.begin() + 1)) {
      throw py::value_error("inputs of different shapes cannot share a run");
    }
    dims[0] += more[0];
  }
  if (type == TF_STRING) {
    std::vector<std::string_view> strings;
    strings.reserve(static_cast<size_t>(Elements(dims)));
    for (const py::array& array : arrays) {
      if (array.dtype().kind() != 'O')
        throw py::type_error("expected an object array of bytes for an input of strings");
      auto* const* const objects = static_cast<PyObject* const*>(array.data());
      for (py::ssize_t i = 0; i < array.size(); ++i) {
        if (objects[i] == nullptr || !PyBytes_Check(objects[i])) {
          throw py::type_error("expected an object array of bytes for an input of strings");
        }
        strings.emplace_back(PyBytes_AS_STRING(objects[i]), static_cast<size_t>(PyBytes_GET_SIZE(objects[i])));
      }
    }
    return Tensor::OfStrings(dims, strings);
  }
  Tensor tensor = Tensor::OfNumbers(type, dims);
  auto* target = static_cast<char*>(tensor.data());
  for (const py::array& array : arrays) {
    if (array.dtype().kind() == 'O' || static_cast<size_t>(array.itemsize()) != TF_DataTypeSize(type)) {
      throw py::type_error("the type of an array differs from that of the input");
    }
    std::memcpy(target, array.data(), static_cast<size_t>(array.nbytes()));
    target += array.nbytes();
  }
  return tensor;
}

}  // namespace dpsr::serving
