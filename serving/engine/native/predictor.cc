#include "serving/engine/native/predictor.h"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace dpsr::serving {
namespace {

constexpr size_t kMostNotes = 65536;  // kept until Python takes them, a few times a second
constexpr std::string_view kSignatureField = "signature_def";

double SecondsSinceEpoch() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

bool IsUsableRequestId(std::string_view id) {
  constexpr std::string_view kOthers = "_.:/+=-";
  return !id.empty() && id.size() <= 128 && std::all_of(id.begin(), id.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           kOthers.find(c) != std::string_view::npos;
  });
}

// A prediction from its arrival to its answer.
struct Predictor::Request {
  Request(Exchange* exchange, Clock::time_point start, InUse servable = InUse())
      : exchange(exchange), start(start), servable(std::move(servable)) {}

  Exchange* const exchange;
  const Clock::time_point start;
  Clock::time_point deadline;
  InUse servable;
  std::unique_ptr<PreparedCall> call;  // after the version, which it uses
  bool has_left = false;               // guarded by the mutex while the request waits or runs
};

Predictor::Predictor(PredictorOptions options, std::shared_ptr<InFlight> in_flight, Figures* figures)
    : options_(std::move(options)),
      in_flight_(std::move(in_flight)),
      nameless_(figures->Of("", "", "")),
      health_(std::make_shared<const std::map<std::string, int, std::less<>>>()) {}

Predictor::~Predictor() = default;

void Predictor::Predict(Exchange* exchange) {
  const Clock::time_point start = Clock::now();
  std::optional<PredictRequest> message = ReadPredictRequest(exchange->request());
  if (!message) return exchange->Forward();
  const bool admitted = in_flight_->Enter();
  if (stopping_.load() || !admitted) {
    return End(std::make_unique<Request>(exchange, start), stopping_.load() ? options_.stopping : options_.too_many,
               "");
  }
  auto request = std::make_unique<Request>(exchange, start, catalogue_.Find(message->model_spec));
  if (request->servable.get() != nullptr) {
    request->call = request->servable->Prepare(std::move(*message), options_.limits);
  }
  if (request->call == nullptr) return HandOver(std::move(request));
  request->deadline = exchange->deadline();
  if (request->deadline <= start) return End(std::move(request), options_.late, "");
  Batch batch;
  bool has_left = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    has_left = exchange->cancelled();  // what comes after this, Cancel finds
    if (!has_left && running_ >= options_.parallel_runs) {
      waiting_.push_back(std::move(request));
      return;
    }
    if (!has_left) {
      ++running_;
      in_runs_.push_back(request.get());
    }
  }
  if (has_left) return End(std::move(request), options_.left, "");
  batch.push_back(std::move(request));
  RunBatches(std::move(batch));
}

void Predictor::RunBatches(Batch batch) {
  while (!batch.empty()) {
    std::vector<PreparedCall*> calls;
    for (const std::unique_ptr<Request>& request : batch) calls.push_back(request->call.get());
    std::optional<std::vector<std::string>> answers = batch.front()->servable->Run(calls);
    Batch next, late;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (const std::unique_ptr<Request>& request : batch) {
        in_runs_.erase(std::find(in_runs_.begin(), in_runs_.end(), request.get()));
      }
      next = TakeBatch(&late);
      if (next.empty()) --running_;
    }
    AnswerBatch(std::move(batch), std::move(answers));
    for (std::unique_ptr<Request>& request : late) End(std::move(request), options_.late, "");
    batch = std::move(next);
  }
}

void Predictor::AnswerBatch(Batch batch, std::optional<std::vector<std::string>> answers) {
  for (size_t i = 0; i < batch.size(); ++i) {
    std::unique_ptr<Request>& request = batch[i];
    if (request->has_left) {  // and is accounted for
      Exchange* const exchange = request->exchange;
      request.reset();
      exchange->Finish(options_.left, "", "");
    } else if (answers) {
      End(std::move(request), {}, std::move((*answers)[i]));
    } else if (request->servable->retired()) {
      const CallStatus unloaded = request->servable->unloaded;
      End(std::move(request), unloaded, "");
    } else {
      HandOver(std::move(request));
    }
  }
}

Predictor::Batch Predictor::TakeBatch(Batch* late) {
  Batch batch;
  std::deque<std::unique_ptr<Request>> left;
  const Clock::time_point now = waiting_.empty() ? Clock::time_point() : Clock::now();
  int64_t rows = 0;
  for (std::unique_ptr<Request>& request : waiting_) {
    if (request->deadline <= now) {
      late->push_back(std::move(request));
      continue;
    }
    const bool fits = batch.empty() || (rows + request->call->rows <= options_.shared_run_rows &&
                                        batch.front()->servable.get() == request->servable.get() &&
                                        batch.front()->call->SharesRunWith(*request->call));
    if (fits) {
      rows += request->call->rows;
      in_runs_.push_back(request.get());
      batch.push_back(std::move(request));
    } else {
      left.push_back(std::move(request));
    }
  }
  waiting_ = std::move(left);
  return batch;
}

void Predictor::Cancel(Exchange* exchange) {
  std::unique_ptr<Request> waiting;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (Request* const running : in_runs_) {
      if (running->exchange != exchange || running->has_left) continue;
      running->has_left = true;
      Account(*running, options_.left);  // the run goes on, and nobody waits for it
    }
    const auto found = std::find_if(waiting_.begin(), waiting_.end(),
                                    [&](const auto& request) { return request->exchange == exchange; });
    if (found != waiting_.end()) {
      waiting = std::move(*found);
      waiting_.erase(found);
    }
  }
  if (waiting != nullptr) End(std::move(waiting), options_.left, "");
}

std::string Predictor::Account(const Request& request, const CallStatus& status) {
  const std::string_view given = request.exchange->given_request_id();
  std::string request_id(given);
  if (!IsUsableRequestId(given)) {
    char made[17];
    std::snprintf(made, sizeof made, "%08llx", static_cast<unsigned long long>(next_id_.fetch_add(1)));
    request_id = options_.id_prefix + made;
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - request.start).count();
  SignatureFigures* const figures = request.call != nullptr ? request.call->figures : nameless_;
  if (options_.logged == LoggedRequests::kAll || (options_.logged == LoggedRequests::kFailed && !status.ok())) {
    const int64_t rows = request.call != nullptr ? request.call->rows : -1;
    Note note{SecondsSinceEpoch(), request_id, request.exchange->peer(), seconds, figures, rows, status};
    const std::lock_guard<std::mutex> lock(notes_mutex_);
    if (notes_.size() < kMostNotes) {
      notes_.push_back(std::move(note));
    } else {
      ++lost_notes_;
    }
  }
  figures->codes[static_cast<size_t>(status.code)].fetch_add(1, std::memory_order_relaxed);
  figures->seconds.Observe(seconds);
  in_flight_->Leave();
  return request_id;
}

void Predictor::End(std::unique_ptr<Request> request, const CallStatus& status, std::string response) {
  Exchange* const exchange = request->exchange;
  const std::string request_id = Account(*request, status);
  request.reset();  // the version is free before the client knows, as one who then unloads it expects
  exchange->Finish(status, std::move(response), request_id);
}

void Predictor::HandOver(std::unique_ptr<Request> request) {
  Exchange* const exchange = request->exchange;
  request.reset();
  in_flight_->Leave();
  exchange->Forward();
}

void Predictor::GetModelMetadata(Exchange* exchange) {
  const std::optional<MetadataRequest> request = ReadMetadataRequest(exchange->request());
  if (request && request->metadata_fields == std::vector<std::string_view>{kSignatureField}) {
    const InUse servable = catalogue_.Find(request->model_spec);
    if (servable.get() != nullptr) return exchange->Finish({}, servable->metadata, "");
  }
  exchange->Forward();
}

void Predictor::SetHealth(std::map<std::string, int, std::less<>> statuses) {
  std::atomic_store(&health_, std::make_shared<const std::map<std::string, int, std::less<>>>(std::move(statuses)));
}

void Predictor::CheckHealth(Exchange* exchange) {
  const std::optional<std::string_view> service = ReadHealthCheckRequest(exchange->request());
  const auto health = std::atomic_load(&health_);
  const auto found = service ? health->find(*service) : health->end();
  if (found == health->end()) return exchange->Forward();
  std::string response;  // field 1 of HealthCheckResponse; proto3 leaves out a zero
  if (found->second != 0) response = {'\x08', static_cast<char>(found->second)};
  exchange->Finish({}, std::move(response), "");
}

std::vector<Note> Predictor::TakeNotes(int64_t* lost) {
  const std::lock_guard<std::mutex> lock(notes_mutex_);
  *lost = std::exchange(lost_notes_, 0);
  return std::exchange(notes_, {});
}

}  // namespace dpsr::serving
