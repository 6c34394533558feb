// The Python module dpsr.serving.engine._transport. The threads of a transport never take the GIL.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "serving/engine/native/transport/transport.h"

namespace py = pybind11;

namespace dpsr::serving {
namespace {

constexpr char kServiceCapsule[] = "dpsr.serving.Service";

std::optional<std::string> Text(const std::optional<py::bytes>& bytes) {
  return bytes ? std::optional<std::string>(*bytes) : std::nullopt;
}

// Transport that keeps its service alive.
class PyTransport {
 public:
  PyTransport(py::capsule service, const TransportOptions& options) : service_(std::move(service)) {
    auto* const native = service_.get_pointer<Service>();
    const py::gil_scoped_release release;
    transport_ = std::make_unique<Transport>(native, options);
  }

  ~PyTransport() {
    const py::gil_scoped_release release;
    transport_.reset();
  }

  int port() const { return transport_->port(); }

  void Shutdown(double grace_seconds) {
    const py::gil_scoped_release release;
    transport_->Shutdown(std::chrono::milliseconds(static_cast<int64_t>(std::max(0.0, grace_seconds) * 1000)));
  }

 private:
  const py::capsule service_;
  std::unique_ptr<Transport> transport_;
};

std::unique_ptr<PyTransport> Make(const py::capsule& service, const std::string& address, const std::string& backend,
                                  int threads, int max_message_bytes, bool reuse_port,
                                  const std::optional<py::bytes>& key, const std::optional<py::bytes>& certificate,
                                  const std::optional<py::bytes>& client_ca) {
  if (service.name() == nullptr || std::string(service.name()) != kServiceCapsule) {
    throw py::type_error(std::string("service is not a capsule named ") + kServiceCapsule);
  }
  if (threads < 1) throw py::value_error("threads must be at least 1, is " + std::to_string(threads));
  if (key.has_value() != certificate.has_value() || (client_ca && !key)) {
    throw py::value_error("TLS needs both key and certificate; client_ca is optional");
  }
  std::optional<TlsOptions> tls;
  if (key) tls = TlsOptions{*Text(key), *Text(certificate), Text(client_ca)};
  return std::make_unique<PyTransport>(
      service, TransportOptions{address, backend, threads, max_message_bytes, reuse_port, std::move(tls)});
}

PYBIND11_MODULE(_transport, module) {
  py::class_<PyTransport>(module, "Transport")
      .def(py::init(&Make), py::arg("service"), py::kw_only(), py::arg("address"), py::arg("backend"),
           py::arg("threads"), py::arg("max_message_bytes"), py::arg("reuse_port"), py::arg("key"),
           py::arg("certificate"), py::arg("client_ca"))
      .def_property_readonly("port", &PyTransport::port)
      .def("shutdown", &PyTransport::Shutdown, py::arg("grace_seconds"));
}

}  // namespace
}  // namespace dpsr::serving
