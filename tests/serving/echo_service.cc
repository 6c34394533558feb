// The Python module of the service of the transport's tests.

#include "tests/serving/echo_service.h"

#include <pybind11/pybind11.h>

#include <memory>

namespace py = pybind11;

namespace dpsr::serving {
namespace {

class PyEchoService {
 public:
  PyEchoService() : service_(std::make_unique<EchoService>()) {}
  ~PyEchoService() { service_->Join(); }

  py::capsule capsule() { return py::capsule(static_cast<Service*>(service_.get()), "dpsr.serving.Service"); }
  int cancels() const { return service_->cancels(); }
  size_t waiting() { return service_->waiting(); }

 private:
  std::unique_ptr<EchoService> service_;
};

constexpr char kNothing = 0;

PYBIND11_MODULE(echo_service, module) {
  py::class_<PyEchoService>(module, "EchoService")
      .def(py::init())
      .def_property_readonly("capsule", &PyEchoService::capsule)
      .def_property_readonly("cancels", &PyEchoService::cancels)
      .def_property_readonly("waiting", &PyEchoService::waiting);
  module.def("other_capsule", [] { return py::capsule(&kNothing, "other"); });
}

}  // namespace
}  // namespace dpsr::serving
