// A SavedModel as Python owns it.

#ifndef DPSR_SERVING_ENGINE_SESSION_CC_SESSION_H_
#define DPSR_SERVING_ENGINE_SESSION_CC_SESSION_H_

#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <utility>

#include "serving/engine/session_cc/saved_model.h"

namespace dpsr::serving {

// Owner of a model until Close. Close cancels runs in progress; each of them shares the ownership, so the memory is
// freed when the last one ends.
class Session {
 public:
  Session(const std::string& path, const std::string& config) {
    const pybind11::gil_scoped_release release;
    InBackground([&] { model_ = std::make_shared<SavedModel>(path, config); });
  }
  ~Session() { Close(); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Throws Error after Close.
  const std::shared_ptr<SavedModel>& model() const {
    if (model_ == nullptr) throw Error(TF_FAILED_PRECONDITION, "the model has been unloaded");
    return model_;
  }

  void Close() {
    std::shared_ptr<SavedModel> model = std::move(model_);
    if (model == nullptr) return;
    const pybind11::gil_scoped_release release;
    InBackground([&] {
      model->Close();
      model.reset();
    });
  }

 private:
  std::shared_ptr<SavedModel> model_;
};

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_SESSION_CC_SESSION_H_
