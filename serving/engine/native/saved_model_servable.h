// A SavedModel as the data plane runs it.

#ifndef DPSR_SERVING_ENGINE_NATIVE_SAVED_MODEL_SERVABLE_H_
#define DPSR_SERVING_ENGINE_NATIVE_SAVED_MODEL_SERVABLE_H_

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "serving/engine/native/figures.h"
#include "serving/engine/native/servable.h"
#include "serving/engine/session_cc/saved_model.h"
#include "serving/engine/session_cc/tensor.h"

namespace dpsr::serving {

// An input of a signature.
struct InputArgument {
  std::string alias;
  std::string tensor;  // name in the graph
  TF_DataType type;
  std::optional<std::vector<int64_t>> shape;  // -1 for a free size; nullopt for a free rank
  std::optional<Tensor> default_value;
};

struct OutputArgument {
  std::string alias;
  std::string tensor;
};

struct SignatureArguments {
  std::string name;
  std::vector<InputArgument> inputs;
  std::vector<OutputArgument> outputs;  // by alias, in alphabetical order
  bool independent_rows;                // whether requests may share a run
};

class SavedModelServable : public Servable {
 public:
  // `model` is not owned: a run after its end fails. Throws std::out_of_range for a tensor that the graph has not.
  SavedModelServable(const std::shared_ptr<SavedModel>& model, std::string name, int64_t version, std::string metadata,
                     CallStatus unloaded, const std::vector<SignatureArguments>& signatures, Figures* figures);
  ~SavedModelServable() override;

  std::unique_ptr<PreparedCall> Prepare(PredictRequest request, const Limits& limits) override;
  std::optional<std::vector<std::string>> Run(const std::vector<PreparedCall*>& calls) override;

 private:
  struct Signature;
  // Some outputs of a signature, in alphabetical order.
  struct Selection {
    std::vector<std::string> aliases;
    std::vector<TF_Output> fetches;
  };
  class Call;

  // The outputs of a filter; nullptr for an unknown alias and for one that is named twice.
  static const Selection* Select(Signature* signature, const std::vector<std::string_view>& filter);
  void Count(const Call& first, size_t calls, int64_t rows, const std::vector<Tensor>& outputs) const;

  const std::weak_ptr<SavedModel> model_;
  std::map<std::string, std::unique_ptr<Signature>, std::less<>> signatures_;
};

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_NATIVE_SAVED_MODEL_SERVABLE_H_
