// Python's side of the data plane's engine, in the module dpsr.serving.engine._session.

#ifndef DPSR_SERVING_ENGINE_NATIVE_BINDINGS_H_
#define DPSR_SERVING_ENGINE_NATIVE_BINDINGS_H_

#include <pybind11/pybind11.h>

namespace dpsr::serving {

// Adds InFlight, Predictor and Servable.
void BindDataPlane(pybind11::module_& module);

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_NATIVE_BINDINGS_H_
