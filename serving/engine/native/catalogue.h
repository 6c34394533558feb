// The models that the data plane serves. A change replaces the whole catalogue, so a request sees the one before or the
// one after.

#ifndef DPSR_SERVING_ENGINE_NATIVE_CATALOGUE_H_
#define DPSR_SERVING_ENGINE_NATIVE_CATALOGUE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "serving/engine/native/predict_request.h"
#include "serving/engine/native/servable.h"

namespace dpsr::serving {

struct ModelVersions {
  std::map<int64_t, std::shared_ptr<Servable>, std::greater<>> serving;  // the highest first
  std::map<std::string, int64_t, std::less<>> labels;
};

using ModelsByName = std::map<std::string, ModelVersions, std::less<>>;

// A share of a version during a call; empty if there is none.
class InUse {
 public:
  InUse() = default;
  explicit InUse(std::shared_ptr<Servable> servable) : servable_(std::move(servable)) {
    if (servable_ != nullptr && !servable_->Enter()) servable_.reset();
  }
  InUse(InUse&&) = default;
  InUse& operator=(InUse&&) = delete;
  ~InUse() {
    if (servable_ != nullptr) servable_->Leave();
  }

  Servable* get() const { return servable_.get(); }
  Servable* operator->() const { return servable_.get(); }

 private:
  std::shared_ptr<Servable> servable_;
};

class Catalogue {
 public:
  // Replaces all models.
  void Replace(ModelsByName models) {
    std::atomic_store(&models_, std::make_shared<const ModelsByName>(std::move(models)));
  }

  // The version that a request names, by number, by label, or by neither for the highest one.
  InUse Find(const ModelSpec& spec) const {
    const std::shared_ptr<const ModelsByName> models = std::atomic_load(&models_);
    const auto model = models->find(spec.name);
    if (model == models->end() || model->second.serving.empty()) return InUse();
    auto version = model->second.serving.begin();
    if (spec.version_label) {
      const auto label = model->second.labels.find(*spec.version_label);
      if (label == model->second.labels.end()) return InUse();
      version = model->second.serving.find(label->second);
    } else if (spec.version) {
      version = model->second.serving.find(*spec.version);
    }
    return version == model->second.serving.end() ? InUse() : InUse(version->second);
  }

 private:
  std::shared_ptr<const ModelsByName> models_ = std::make_shared<const ModelsByName>();
};

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_NATIVE_CATALOGUE_H_
