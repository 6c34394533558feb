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

#include "serving/engine/native/bindings.h"
#include "serving/engine/session_cc/numpy_tensor.h"
#include "serving/engine/session_cc/predict_response.h"
#include "serving/engine/session_cc/saved_model.h"
#include "serving/engine/session_cc/session.h"
#include "serving/engine/session_cc/tensor.h"

namespace py = pybind11;

namespace dpsr::serving {
namespace {

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
      part.push_back({0, tensor.rows()});
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
      .def(
          "function",
          [](const Session& session, const std::vector<std::pair<std::string, int>>& inputs,
             const std::vector<std::pair<std::string, std::string>>& outputs) {
            return Function(session.model(), inputs, outputs);
          },
          py::arg("inputs"), py::arg("outputs"))
      .def("close", &Session::Close);
  BindDataPlane(module);
}

}  // namespace
}  // namespace dpsr::serving
