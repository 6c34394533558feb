// A version of a model as the data plane runs it. This file knows no TensorFlow, so that what is built on it is tested
// under the thread sanitizer.

#ifndef DPSR_SERVING_ENGINE_NATIVE_SERVABLE_H_
#define DPSR_SERVING_ENGINE_NATIVE_SERVABLE_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "serving/engine/native/exchange.h"
#include "serving/engine/native/figures.h"
#include "serving/engine/native/predict_request.h"

namespace dpsr::serving {

// Largest request that is accepted.
struct Limits {
  int64_t batch_rows;
  size_t query_bytes;
};

// A request that fits its signature.
class PreparedCall {
 public:
  explicit PreparedCall(SignatureFigures* figures) : figures(figures) {}
  PreparedCall(const PreparedCall&) = delete;
  PreparedCall& operator=(const PreparedCall&) = delete;
  virtual ~PreparedCall() = default;

  // Whether a run may answer both.
  virtual bool SharesRunWith(const PreparedCall& other) const = 0;

  // Size of the batch dimension that all inputs share; 0 where they share none.
  int64_t rows = 0;
  // Of the signature; lives as long as the process.
  SignatureFigures* const figures;
};

// Thread-safe.
class Servable {
 public:
  Servable(std::string name, int64_t version, std::string metadata, CallStatus unloaded)
      : name(std::move(name)), version(version), metadata(std::move(metadata)), unloaded(std::move(unloaded)) {}
  Servable(const Servable&) = delete;
  Servable& operator=(const Servable&) = delete;
  virtual ~Servable() = default;

  // Nullptr for a request that does not fit, or whose form is unusual: the Python server answers it. Views of the
  // request are kept.
  virtual std::unique_ptr<PreparedCall> Prepare(PredictRequest request, const Limits& limits) = 0;

  // Serialised PredictResponse of each call, in one run; nullopt if the run has failed, for whatever reason: the Python
  // server answers the calls one by one.
  virtual std::optional<std::vector<std::string>> Run(const std::vector<PreparedCall*>& calls) = 0;

  // Begins a call, unless the version is retired.
  bool Enter() {
    calls_.fetch_add(1);
    if (!retired_.load()) return true;
    Leave();
    return false;
  }

  bool retired() const { return retired_.load(); }

  // Ends a call.
  void Leave() {
    if (calls_.fetch_sub(1) == 1 && retired_.load()) {
      const std::lock_guard<std::mutex> lock(mutex_);
      idle_.notify_all();
    }
  }

  // Lets no call begin any more, and waits for those in progress; returns how many are left after `seconds`.
  int64_t Retire(double seconds) {
    retired_.store(true);
    std::unique_lock<std::mutex> lock(mutex_);
    idle_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return calls_.load() == 0; });
    return calls_.load();
  }

  const std::string name;
  const int64_t version;
  // Serialised GetModelMetadataResponse.
  const std::string metadata;
  // Of calls whose version is gone before they end.
  const CallStatus unloaded;

 private:
  std::atomic<int64_t> calls_{0};
  std::atomic<bool> retired_{false};
  std::mutex mutex_;
  std::condition_variable idle_;
};

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_NATIVE_SERVABLE_H_
