// The engine of the data plane: admission, the model, validation, micro-batches, figures and notes for the log.

#ifndef DPSR_SERVING_ENGINE_NATIVE_PREDICTOR_H_
#define DPSR_SERVING_ENGINE_NATIVE_PREDICTOR_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "serving/engine/native/catalogue.h"
#include "serving/engine/native/exchange.h"
#include "serving/engine/native/figures.h"
#include "serving/engine/native/servable.h"

namespace dpsr::serving {

// Predictions in flight of all planes and protocols of a server.
class InFlight {
 public:
  explicit InFlight(int64_t most) : most_(most) {}

  // Begins a prediction; false if it is one too many. Either way it has to be ended.
  bool Enter() { return count_.fetch_add(1) < most_; }
  void Leave() { count_.fetch_sub(1); }
  int64_t count() const { return count_.load(); }

 private:
  const int64_t most_;
  std::atomic<int64_t> count_{0};
};

enum class LoggedRequests { kNone, kFailed, kAll };

// What Python decides once, at the start: the rules and the texts that both planes have in common.
struct PredictorOptions {
  Limits limits;
  int parallel_runs;
  int64_t shared_run_rows;  // the most that calls have together
  LoggedRequests logged;
  // Of requests that are refused: too many in flight, a server that stops, a deadline that passes while a request
  // waits, a client that leaves.
  CallStatus too_many, stopping, late, left;
  // Start of the request ids that this plane makes.
  std::string id_prefix;
};

// One request, for the log.
struct Note {
  double time;  // seconds since the epoch, of its end
  std::string request_id, peer;
  double seconds;
  const SignatureFigures* figures;
  int64_t rows;  // -1 where they are unknown
  CallStatus status;
};

// Runs a request in the thread that brings it if fewer than `parallel_runs` threads run one; else the request waits,
// and a thread that ends its run takes the oldest one, with all others that may share its run.
class Predictor : public Service {
 public:
  Predictor(PredictorOptions options, std::shared_ptr<InFlight> in_flight, Figures* figures);
  ~Predictor() override;

  void Predict(Exchange* exchange) override;
  void GetModelMetadata(Exchange* exchange) override;
  void CheckHealth(Exchange* exchange) override;
  void Cancel(Exchange* exchange) override;

  Catalogue& catalogue() { return catalogue_; }
  // Status of each service, as a grpc.health.v1.HealthCheckResponse.ServingStatus.
  void SetHealth(std::map<std::string, int, std::less<>> statuses);
  // Refuses new predictions.
  void Stop() { stopping_.store(true); }
  // Notes since the last call, and how many found no room.
  std::vector<Note> TakeNotes(int64_t* lost);

 private:
  struct Request;
  using Batch = std::vector<std::unique_ptr<Request>>;

  // Counts and notes a prediction that has ended; returns its request id.
  std::string Account(const Request& request, const CallStatus& status);
  // Ends a request with a status or an answer.
  void End(std::unique_ptr<Request> request, const CallStatus& status, std::string response);
  // Leaves a request to the Python server.
  void HandOver(std::unique_ptr<Request> request);
  // Runs batches until none waits.
  void RunBatches(Batch batch);
  void AnswerBatch(Batch batch, std::optional<std::vector<std::string>> answers);
  // The next batch; requests whose deadline has passed go to `late`. The mutex is held.
  Batch TakeBatch(Batch* late);

  const PredictorOptions options_;
  const std::shared_ptr<InFlight> in_flight_;
  SignatureFigures* const nameless_;
  Catalogue catalogue_;
  std::shared_ptr<const std::map<std::string, int, std::less<>>> health_;
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> next_id_{0};

  std::mutex mutex_;
  int running_ = 0;
  std::deque<std::unique_ptr<Request>> waiting_;
  std::vector<Request*> in_runs_;

  std::mutex notes_mutex_;
  std::vector<Note> notes_;
  int64_t lost_notes_ = 0;
};

// Whether a client's request id is kept: 1 to 128 characters of letters, digits and _.:/+=-
bool IsUsableRequestId(std::string_view id);

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_NATIVE_PREDICTOR_H_
