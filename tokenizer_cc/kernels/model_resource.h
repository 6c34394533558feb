// A tokenizer of a model file as a TensorFlow resource.

#ifndef DPSR_TOKENIZER_CC_KERNELS_MODEL_RESOURCE_H_
#define DPSR_TOKENIZER_CC_KERNELS_MODEL_RESOURCE_H_

#include <cstdint>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/resource_base.h"
#include "tensorflow/core/platform/env.h"
#include "tensorflow/core/platform/errors.h"
#include "tokenizer_cc/core/model_bytes.h"

namespace dpsr {

// Reads a whole file through TensorFlow's file systems.
absl::Status ReadModel(tensorflow::Env* env, const std::string& path, ModelBytes* model);

// The models of this process, by fingerprint, as long as someone uses them. Thread-safe.
template <class Model>
class SharedModels {
 public:
  static SharedModels& Get() {
    static auto* const shared = new SharedModels;
    return *shared;
  }

  // The one of these that came first.
  std::shared_ptr<const Model> Share(std::shared_ptr<const Model> model) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto entry = models_.begin(); entry != models_.end();) {
      entry = entry->second.expired() ? models_.erase(entry) : std::next(entry);
    }
    std::weak_ptr<const Model>& known = models_[model->fingerprint()];
    if (std::shared_ptr<const Model> first = known.lock(); first != nullptr && first->bytes() == model->bytes()) {
      return first;
    }
    known = model;
    return model;
  }

 private:
  std::mutex mutex_;
  std::unordered_map<std::string, std::weak_ptr<const Model>> models_;
};

// Reads a model file, or joins what the process already holds of the same content.
template <class Model>
absl::Status LoadModel(tensorflow::Env* env, const std::string& path, std::shared_ptr<const Model>* model) {
  ModelBytes bytes;
  TF_RETURN_IF_ERROR(ReadModel(env, path, &bytes));
  std::string error;
  std::shared_ptr<const Model> loaded = Model::FromBytes(std::move(bytes), &error);
  if (loaded == nullptr) return absl::InvalidArgumentError(absl::StrCat(path, ": ", error));
  *model = SharedModels<Model>::Get().Share(std::move(loaded));
  return absl::OkStatus();
}

// Holds a model once it is loaded. Thread-safe.
template <class Model>
class ModelResource : public tensorflow::ResourceBase {
 public:
  // As LoadModel. Loading the same content again changes nothing; loading another is an error.
  absl::Status Load(tensorflow::Env* env, const std::string& path) {
    std::shared_ptr<const Model> loaded;
    TF_RETURN_IF_ERROR(LoadModel(env, path, &loaded));
    const std::lock_guard<std::mutex> lock(mutex_);
    if (model_ != nullptr && model_ != loaded) {
      return absl::FailedPreconditionError(absl::StrCat(path, ": its fingerprint is ", loaded->fingerprint(),
                                                        ", but this tokenizer already has ", model_->fingerprint(),
                                                        "; give each model file a shared_name of its own"));
    }
    model_ = std::move(loaded);
    return absl::OkStatus();
  }

  // Null before Load.
  std::shared_ptr<const Model> model() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return model_;
  }

  std::string DebugString() const override {
    const std::shared_ptr<const Model> loaded = model();
    return absl::StrCat("dpsr tokenizer ", loaded == nullptr ? "(not loaded)" : loaded->fingerprint());
  }

  int64_t MemoryUsed() const override {
    const std::shared_ptr<const Model> loaded = model();
    return static_cast<int64_t>(sizeof(*this) + (loaded == nullptr ? 0 : loaded->bytes().size()));
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const Model> model_;
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_KERNELS_MODEL_RESOURCE_H_
