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

// Does work in a thread of its own that gives way to all others; returns, or throws, when it is done.
void InBackground(const std::function<void()>& work);

// Thread-safe. Freed with the last owner, a run that is under way included.
class SavedModel {
 public:
  // Loads the graph tagged "serve": variables, assets, initialisation. `config` is a serialized ConfigProto. Throws
  // Error.
  SavedModel(const std::string& path, const std::string& config);
  SavedModel(const SavedModel&) = delete;
  SavedModel& operator=(const SavedModel&) = delete;
  ~SavedModel();

  // The tensor of a name such as "query:0". Throws std::out_of_range.
  TF_Output Find(const std::string& tensor) const;

  // Feeds values and computes tensors. Throws Error with the code and the text of the op that failed.
  std::vector<Tensor> Run(const std::vector<TF_Output>& inputs, const std::vector<Tensor>& values,
                          const std::vector<TF_Output>& outputs) const;

  // Ends what runs with an error, and refuses what comes.
  void Close();

 private:
  TF_Graph* graph_;
  TF_Session* session_ = nullptr;
};

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_SESSION_CC_SAVED_MODEL_H_
