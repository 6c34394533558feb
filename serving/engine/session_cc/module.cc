// The Python module dpsr.serving.engine._session: SavedModels with NumPy arrays. The GIL is released while a model is
// loaded, run or freed; answers are serialised before it is taken again, once per run and not once per request.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "serving/engine/session_cc/predict_response.h"
#include "serving/engine/session_cc/saved_model.h"
#include "serving/engine/session_cc/tensor.h"

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

// NumPy array of a tensor: a view of numbers, an object array of bytes for strings.
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

std::vector<int64_t> DimsOf(const py::array& array) { return {array.shape(), array.shape() + array.ndim()}; }

// Concatenation of one input's arrays along the batch dimension.
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

// Outputs of a run.
class Outputs {
 public:
  Outputs(const std::vector<std::string>* aliases, std::vector<Tensor> tensors, bool by_row)
      : aliases_(*aliases), tensors_(std::move(tensors)), by_row_(by_row) {}

  py::array At(const std::string& alias) const {
    const auto found = std::find(aliases_.begin(), aliases_.end(), alias);
    if (found == aliases_.end()) throw py::key_error(alias);
    return Array(tensors_[static_cast<size_t>(found - aliases_.begin())]);
  }

  bool by_row() const { return by_row_; }

  // Serialises the answer of each call; does not need the GIL.
  void Write(const std::string& model_spec, const std::vector<int64_t>& rows) {
    std::vector<Rows> part;
    for (const Tensor& tensor : tensors_) {
      part.push_back({0, TF_NumDims(tensor.get()) == 0 ? 1 : TF_Dim(tensor.get(), 0)});
    }
    int64_t end = 0;
    for (const int64_t more : rows) {
      if (rows.size() > 1) part.assign(part.size(), {end, end + more});
      end += more;
      messages_.push_back(PredictResponse(model_spec, aliases_, tensors_, part));
    }
  }

  py::list Messages() const {
    py::list messages;
    for (const std::string& message : messages_) messages.append(py::bytes(message));
    return messages;
  }

 private:
  const std::vector<std::string>& aliases_;  // of the function, which outlives its outputs
  std::vector<Tensor> tensors_;
  bool by_row_;
  std::vector<std::string> messages_;
};

struct Input {
  TF_Output tensor;
  TF_DataType type;
};

// Inputs and outputs of a model, ready to run. Outlives the model, and refuses to run once the model is freed.
class Function {
 public:
  Function(const std::shared_ptr<SavedModel>& model, const std::vector<std::pair<std::string, int>>& inputs,
           const std::vector<std::pair<std::string, std::string>>& outputs)
      : model_(model) {
    for (const auto& [tensor, type] : inputs) {
      feeds_.push_back(model->Find(tensor));
      types_.push_back(static_cast<TF_DataType>(type));
    }
    for (const auto& [alias, tensor] : outputs) {
      aliases_.push_back(alias);
      fetches_.push_back(model->Find(tensor));
    }
  }

  std::unique_ptr<Outputs> Run(const std::vector<std::vector<py::array>>& calls, const std::vector<int64_t>& rows,
                               const std::optional<std::string>& model_spec, bool in_background) const {
    std::vector<Tensor> values;
    std::vector<py::array> arrays;
    for (size_t input = 0; input < feeds_.size(); ++input) {
      arrays.clear();
      for (const std::vector<py::array>& call : calls) {
        arrays.push_back(py::array::ensure(call.at(input), py::array::c_style));
      }
      values.push_back(Join(arrays, types_[input]));
    }
    const py::gil_scoped_release release;
    const std::shared_ptr<SavedModel> model = model_.lock();
    if (model == nullptr) throw Error(TF_FAILED_PRECONDITION, "the model has been unloaded");
    std::unique_ptr<Outputs> outputs;
    const auto run = [&] {
      std::vector<Tensor> tensors = model->Run(feeds_, values, fetches_);
      int64_t all = 0;
      for (const int64_t more : rows) all += more;
      const bool by_row = HaveRows(tensors, all);
      outputs = std::make_unique<Outputs>(&aliases_, std::move(tensors), by_row);
      if (model_spec && (by_row || rows.size() == 1)) outputs->Write(*model_spec, rows);
    };
    if (in_background) {
      InBackground(run);
    } else {
      run();
    }
    return outputs;
  }

 private:
  std::weak_ptr<SavedModel> model_;
  std::vector<TF_Output> feeds_;
  std::vector<TF_DataType> types_;
  std::vector<TF_Output> fetches_;
  std::vector<std::string> aliases_;
};

// Owner of a model until Close. Close cancels runs in progress; each of them shares the ownership, so the memory is
// freed when the last one ends.
class Session {
 public:
  Session(const std::string& path, const std::string& config) {
    const py::gil_scoped_release release;
    InBackground([&] { model_ = std::make_shared<SavedModel>(path, config); });
  }
  ~Session() { Close(); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  Function MakeFunction(const std::vector<std::pair<std::string, int>>& inputs,
                        const std::vector<std::pair<std::string, std::string>>& outputs) const {
    if (model_ == nullptr) throw Error(TF_FAILED_PRECONDITION, "the model has been unloaded");
    return {model_, inputs, outputs};
  }

  void Close() {
    std::shared_ptr<SavedModel> model = std::move(model_);
    if (model == nullptr) return;
    const py::gil_scoped_release release;
    InBackground([&] {
      model->Close();
      model.reset();
    });
  }

 private:
  std::shared_ptr<SavedModel> model_;
};

PYBIND11_MODULE(_session, module) {
  // SessionError(code, message): the message is bytes, since it may quote bytes of a request.
  static const py::handle error_type =
      py::handle(PyErr_NewException("dpsr.serving.engine._session.SessionError", PyExc_Exception, nullptr));
  module.attr("SessionError") = error_type;
  py::register_exception_translator([](std::exception_ptr failure) {
    try {
      if (failure) std::rethrow_exception(failure);
    } catch (const Error& error) {
      const py::tuple arguments = py::make_tuple(static_cast<int>(error.code()), py::bytes(error.what()));
      PyErr_SetObject(error_type.ptr(), arguments.ptr());
    }
  });

  py::class_<Outputs>(module, "Outputs")
      .def("__getitem__", &Outputs::At, py::arg("alias"))
      .def_property_readonly("by_row", &Outputs::by_row)
      .def_property_readonly("messages", &Outputs::Messages);
  py::class_<Function>(module, "Function")
      .def("run", &Function::Run, py::arg("calls"), py::arg("rows"), py::arg("model_spec") = py::none(), py::kw_only(),
           py::arg("in_background") = false, py::keep_alive<0, 1>());
  py::class_<Session>(module, "Session")
      .def(py::init<const std::string&, const std::string&>(), py::arg("path"), py::arg("config"))
      .def("function", &Session::MakeFunction, py::arg("inputs"), py::arg("outputs"))
      .def("close", &Session::Close);
}

}  // namespace
}  // namespace dpsr::serving
