// A SavedModel in a session of its own, loaded and run through TensorFlow's C API: no Python, no GIL.

#ifndef DPSR_SERVING_ENGINE_SESSION_CC_SAVED_MODEL_H_
#define DPSR_SERVING_ENGINE_SESSION_CC_SAVED_MODEL_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "serving/engine/session_cc/tensor.h"
#include "tensorflow/c/c_api.h"

namespace dpsr::serving {

// Runs work in a thread of low priority (niceness 10); returns when it is done, and throws what it throws.
void InBackground(const std::function<void()>& work);

// Thread-safe. Must not be destroyed during a run: its runner holds a share of the ownership.
class SavedModel {
 public:
  // Loads the graph tagged "serve" with its variables and assets, and initialises it. `config` is a serialised
  // ConfigProto. Throws Error.
  SavedModel(const std::string& path, const std::string& config);
  SavedModel(const SavedModel&) = delete;
  SavedModel& operator=(const SavedModel&) = delete;
  ~SavedModel();

  // Tensor of a name such as "query:0". Throws std::out_of_range.
  TF_Output Find(const std::string& tensor) const;

  // Computes `outputs` from the `values` of `inputs`. Throws Error with the code and the text of the failing op.
  std::vector<Tensor> Run(const std::vector<TF_Output>& inputs, const std::vector<Tensor>& values,
                          const std::vector<TF_Output>& outputs) const;

  // Cancels runs in progress and refuses further ones. Does not wait for them.
  void Close();

 private:
  TF_Graph* graph_;
  TF_Session* session_ = nullptr;
};

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_SESSION_CC_SAVED_MODEL_H_
