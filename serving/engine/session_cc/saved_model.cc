#include "serving/engine/session_cc/saved_model.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <charconv>
#include <exception>
#include <stdexcept>
#include <thread>

namespace dpsr::serving {
namespace {

constexpr int kNiceness = 10;

class Status {
 public:
  TF_Status* get() const { return status_.get(); }

  void Check() const {
    if (TF_GetCode(get()) != TF_OK) throw Error(TF_GetCode(get()), TF_Message(get()));
  }

 private:
  std::unique_ptr<TF_Status, void (*)(TF_Status*)> status_{TF_NewStatus(), TF_DeleteStatus};
};

}  // namespace

void InBackground(const std::function<void()>& work) {
  std::exception_ptr failure;
  // The niceness holds for this thread and those that it starts. Only root may lower it again, hence a thread per call.
  std::thread thread([&work, &failure] {
    setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), kNiceness);
    try {
      work();
    } catch (...) {
      failure = std::current_exception();
    }
  });
  thread.join();
  if (failure) std::rethrow_exception(failure);
}

SavedModel::SavedModel(const std::string& path, const std::string& config) : graph_(TF_NewGraph()) {
  const std::unique_ptr<TF_SessionOptions, void (*)(TF_SessionOptions*)> options(TF_NewSessionOptions(),
                                                                                 TF_DeleteSessionOptions);
  const Status status;
  const char* const tags[] = {"serve"};
  TF_SetConfig(options.get(), config.data(), config.size(), status.get());
  if (TF_GetCode(status.get()) == TF_OK) {
    session_ =
        TF_LoadSessionFromSavedModel(options.get(), nullptr, path.c_str(), tags, 1, graph_, nullptr, status.get());
  }
  if (session_ == nullptr) TF_DeleteGraph(graph_);
  status.Check();
}

SavedModel::~SavedModel() {
  const Status status;
  TF_CloseSession(session_, status.get());
  TF_DeleteSession(session_, status.get());
  TF_DeleteGraph(graph_);
}

TF_Output SavedModel::Find(const std::string& tensor) const {
  const size_t colon = tensor.rfind(':');
  if (colon != std::string::npos) {
    int index = 0;
    const char* const end = tensor.data() + tensor.size();
    const auto parsed = std::from_chars(tensor.data() + colon + 1, end, index);
    TF_Operation* const operation = TF_GraphOperationByName(graph_, tensor.substr(0, colon).c_str());
    const bool whole = parsed.ec == std::errc() && parsed.ptr == end;
    if (operation != nullptr && whole && index >= 0 && index < TF_OperationNumOutputs(operation)) {
      return {operation, index};
    }
  }
  throw std::out_of_range("the graph has no tensor '" + tensor + "'");
}

std::vector<Tensor> SavedModel::Run(const std::vector<TF_Output>& inputs, const std::vector<Tensor>& values,
                                    const std::vector<TF_Output>& outputs) const {
  std::vector<TF_Tensor*> fed, found(outputs.size());
  for (const Tensor& value : values) fed.push_back(value.get());
  const Status status;
  TF_SessionRun(session_, nullptr, inputs.data(), fed.data(), static_cast<int>(fed.size()), outputs.data(),
                found.data(), static_cast<int>(found.size()), nullptr, 0, nullptr, status.get());
  status.Check();
  return {found.begin(), found.end()};
}

void SavedModel::Close() {
  const Status status;
  TF_CloseSession(session_, status.get());
}

}  // namespace dpsr::serving
