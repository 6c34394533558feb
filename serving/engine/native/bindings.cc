#include "serving/engine/native/bindings.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "serving/engine/native/figures.h"
#include "serving/engine/native/predictor.h"
#include "serving/engine/native/saved_model_servable.h"
#include "serving/engine/session_cc/numpy_tensor.h"
#include "serving/engine/session_cc/session.h"

namespace py = pybind11;

namespace dpsr::serving {
namespace {

using Status = std::pair<int, std::string>;
using Buckets = std::pair<std::vector<int64_t>, double>;
using Input = std::tuple<std::string, std::string, int, std::optional<std::vector<int64_t>>, std::optional<py::array>>;
using Output = std::pair<std::string, std::string>;
using Signature = std::tuple<std::string, std::vector<Input>, std::vector<Output>, bool>;
using Versions = std::map<int64_t, std::shared_ptr<SavedModelServable>>;
using Labels = std::map<std::string, int64_t, std::less<>>;

CallStatus MakeStatus(const Status& status) { return {status.first, status.second}; }

// Python's owner of the engine: the figures live as long as what adds to them.
class Engine {
 public:
  Engine(PredictorOptions options, std::shared_ptr<InFlight> in_flight, Bounds bounds)
      : figures_(std::move(bounds)), predictor_(std::move(options), std::move(in_flight), &figures_) {}

  Predictor& predictor() { return predictor_; }
  Figures& figures() { return figures_; }

 private:
  Figures figures_;
  Predictor predictor_;
};

std::shared_ptr<SavedModelServable> MakeServable(Engine& engine, const Session& session, const std::string& name,
                                                 int64_t version, const std::string& metadata, const Status& unloaded,
                                                 const std::vector<Signature>& signatures) {
  std::vector<SignatureArguments> all;
  for (const auto& [signature, inputs, outputs, independent_rows] : signatures) {
    SignatureArguments arguments{signature, {}, {}, independent_rows};
    for (const auto& [alias, tensor, type, shape, absent] : inputs) {
      InputArgument input{alias, tensor, static_cast<TF_DataType>(type), shape, std::nullopt};
      if (absent) input.default_value = Join({py::array::ensure(*absent, py::array::c_style)}, input.type);
      arguments.inputs.push_back(std::move(input));
    }
    for (const auto& [alias, tensor] : outputs) arguments.outputs.push_back({alias, tensor});
    all.push_back(std::move(arguments));
  }
  return std::make_shared<SavedModelServable>(session.model(), name, version, metadata, MakeStatus(unloaded), all,
                                              &engine.figures());
}

std::unique_ptr<Engine> MakeEngine(std::shared_ptr<InFlight> in_flight, int parallel_runs, int64_t shared_run_rows,
                                   int64_t batch_rows, size_t query_bytes, const std::string& logged,
                                   const std::string& id_prefix, const std::map<std::string, Status>& refusals,
                                   std::vector<double> seconds, std::vector<double> rows,
                                   std::vector<double> requests) {
  PredictorOptions options;
  options.limits = {batch_rows, query_bytes};
  options.parallel_runs = parallel_runs;
  options.shared_run_rows = shared_run_rows;
  options.logged = logged == "all"      ? LoggedRequests::kAll
                   : logged == "failed" ? LoggedRequests::kFailed
                                        : LoggedRequests::kNone;
  options.id_prefix = id_prefix;
  options.too_many = MakeStatus(refusals.at("too_many"));
  options.stopping = MakeStatus(refusals.at("stopping"));
  options.late = MakeStatus(refusals.at("late"));
  options.left = MakeStatus(refusals.at("left"));
  return std::make_unique<Engine>(std::move(options), std::move(in_flight),
                                  Bounds{std::move(seconds), std::move(rows), std::move(requests)});
}

void SetModels(Engine& engine, const std::map<std::string, std::pair<Versions, Labels>>& models) {
  ModelsByName all;
  for (const auto& [name, model] : models) {
    ModelVersions versions;
    versions.serving.insert(model.first.begin(), model.first.end());
    versions.labels = model.second;
    all.emplace(name, std::move(versions));
  }
  engine.predictor().catalogue().Replace(std::move(all));
}

Buckets Taken(AtomicHistogram* histogram) {
  Counts counts = histogram->Take();
  return {std::move(counts.buckets), counts.sum};
}

py::list TakeFigures(Engine& engine) {
  py::list taken;
  for (SignatureFigures* const figures : engine.figures().All()) {
    std::map<int, int64_t> codes;
    for (int code = 0; code < kCodes; ++code) {
      const int64_t count = figures->codes[static_cast<size_t>(code)].exchange(0);
      if (count != 0) codes.emplace(code, count);
    }
    Buckets rows = Taken(&figures->batch_rows);
    const bool has_run = std::any_of(rows.first.begin(), rows.first.end(), [](int64_t count) { return count != 0; });
    if (codes.empty() && !has_run) continue;  // a run may end after its callers have left, and were counted
    taken.append(py::make_tuple(py::make_tuple(figures->model, figures->version, figures->signature), std::move(codes),
                                Taken(&figures->seconds), std::move(rows), Taken(&figures->batch_requests),
                                figures->results.exchange(0), figures->short_rows.exchange(0)));
  }
  return taken;
}

py::tuple TakeNotes(Engine& engine) {
  int64_t lost = 0;
  py::list notes;
  for (const Note& note : engine.predictor().TakeNotes(&lost)) {
    notes.append(py::make_tuple(note.time, note.request_id, note.peer, note.seconds,
                                py::make_tuple(note.figures->model, note.figures->version, note.figures->signature),
                                note.rows < 0 ? py::object(py::none()) : py::cast(note.rows), note.status.code,
                                note.status.message));
  }
  return py::make_tuple(std::move(notes), lost);
}

// The engine for a transport; keeps it alive.
py::capsule ServiceOf(const py::object& engine) {
  Service* const service = &engine.cast<Engine&>().predictor();
  PyObject* const capsule = PyCapsule_New(service, "dpsr.serving.Service", [](PyObject* ended) {
    Py_XDECREF(static_cast<PyObject*>(PyCapsule_GetContext(ended)));
  });
  if (capsule == nullptr || PyCapsule_SetContext(capsule, engine.ptr()) != 0) throw py::error_already_set();
  engine.inc_ref();
  return py::reinterpret_steal<py::capsule>(capsule);
}

}  // namespace

void BindDataPlane(py::module_& module) {
  py::class_<InFlight, std::shared_ptr<InFlight>>(module, "InFlight")
      .def(py::init<int64_t>(), py::arg("most"))
      .def("enter", &InFlight::Enter)
      .def("leave", &InFlight::Leave)
      .def_property_readonly("count", &InFlight::count);
  py::class_<SavedModelServable, std::shared_ptr<SavedModelServable>>(module, "Servable")
      .def("retire", &SavedModelServable::Retire, py::arg("seconds"), py::call_guard<py::gil_scoped_release>());
  py::class_<Engine>(module, "Engine")
      .def(py::init(&MakeEngine), py::kw_only(), py::arg("in_flight"), py::arg("parallel_runs"),
           py::arg("shared_run_rows"), py::arg("batch_rows"), py::arg("query_bytes"), py::arg("logged"),
           py::arg("id_prefix"), py::arg("refusals"), py::arg("second_bounds"), py::arg("row_bounds"),
           py::arg("request_bounds"))
      .def("servable", &MakeServable, py::keep_alive<0, 1>(), py::arg("session"), py::arg("name"), py::arg("version"),
           py::arg("metadata"), py::arg("unloaded"), py::arg("signatures"))
      .def("set_models", &SetModels, py::arg("models"))
      .def(
          "set_health",
          [](Engine& engine, std::map<std::string, int, std::less<>> statuses) {
            engine.predictor().SetHealth(std::move(statuses));
          },
          py::arg("statuses"))
      .def("stop", [](Engine& engine) { engine.predictor().Stop(); })
      .def("take_figures", &TakeFigures)
      .def("take_notes", &TakeNotes)
      .def("service", &ServiceOf);
}

}  // namespace dpsr::serving
