// The engine with a servable of its own in place of TensorFlow: every exchange ends once, whatever happens to it.

#include "serving/engine/native/predictor.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace dpsr::serving {
namespace {

using std::chrono::microseconds;
using std::chrono::seconds;

constexpr int kOk = 0, kCancelled = 1, kDeadlineExceeded = 4, kResourceExhausted = 8, kUnavailable = 14;
const Bounds kBounds{{0.001, 1.0}, {1, 2, 4}, {1, 2, 4}};

// A field of a message.
std::string Field(int number, const std::string& content) {
  return std::string{static_cast<char>(number << 3 | 2), static_cast<char>(content.size())} + content;
}

// A PredictRequest without inputs for the highest version of a model, or for a labelled one.
std::string RequestFor(const std::string& model, const std::string& label = "") {
  return Field(1, Field(1, model) + (label.empty() ? "" : Field(4, label)));
}

class FakeCall : public PreparedCall {
 public:
  explicit FakeCall(SignatureFigures* figures) : PreparedCall(figures) { rows = 1; }
  bool SharesRunWith(const PreparedCall&) const override { return true; }
};

// Answers with its version. What a run does is a function.
class FakeServable : public Servable {
 public:
  FakeServable(
      int64_t version, Figures* figures, std::function<bool(size_t)> run = [](size_t) { return true; })
      : Servable("shop", version, "metadata", {kUnavailable, "unloaded"}),
        figures_(figures->Of("shop", std::to_string(version), "serving_default")),
        run_(std::move(run)) {}
  ~FakeServable() override { EXPECT_EQ(in_runs_.load(), 0); }

  std::unique_ptr<PreparedCall> Prepare(PredictRequest request, const Limits&) override {
    if (!request.output_filter.empty()) return nullptr;
    return std::make_unique<FakeCall>(figures_);
  }

  std::optional<std::vector<std::string>> Run(const std::vector<PreparedCall*>& calls) override {
    in_runs_.fetch_add(1);
    const bool done = run_(calls.size());
    in_runs_.fetch_sub(1);
    if (!done) return std::nullopt;
    return std::vector<std::string>(calls.size(), std::to_string(version));
  }

 private:
  SignatureFigures* const figures_;
  const std::function<bool(size_t)> run_;
  std::atomic<int> in_runs_{0};
};

class FakeExchange : public Exchange {
 public:
  explicit FakeExchange(std::string request, Clock::time_point deadline = Clock::time_point::max())
      : request_(std::move(request)), deadline_(deadline) {}

  std::string_view request() const override { return request_; }
  std::string_view given_request_id() const override { return given_id; }
  std::string peer() const override { return "ipv4:127.0.0.1:1"; }
  Clock::time_point deadline() const override { return deadline_; }
  bool cancelled() const override { return has_left.load(); }

  void Finish(const CallStatus& status, std::string response, std::string_view request_id) override {
    code = status.code;
    answer = std::move(response);
    id = request_id;
    ended.fetch_add(1);
  }

  void Forward() override {
    code = -1;
    ended.fetch_add(1);
  }

  std::string given_id;
  std::atomic<bool> has_left{false};
  std::atomic<int> ended{0};
  int code = -2;
  std::string answer, id;

 private:
  const std::string request_;
  const Clock::time_point deadline_;
};

PredictorOptions Options(int parallel_runs) {
  PredictorOptions options;
  options.limits = {1024, 4096};
  options.parallel_runs = parallel_runs;
  options.shared_run_rows = 4;
  options.logged = LoggedRequests::kFailed;
  options.too_many = {kResourceExhausted, "too many"};
  options.stopping = {kUnavailable, "stopping"};
  options.late = {kDeadlineExceeded, "late"};
  options.left = {kCancelled, "left"};
  options.id_prefix = "abcd";
  return options;
}

struct Server {
  explicit Server(int parallel_runs = 1, int64_t most = 1000)
      : in_flight(std::make_shared<InFlight>(most)), predictor(Options(parallel_runs), in_flight, &figures) {}

  void Serve(std::vector<std::shared_ptr<Servable>> versions, std::map<std::string, int64_t, std::less<>> labels = {}) {
    ModelVersions model;
    for (auto& version : versions) model.serving.emplace(version->version, version);
    model.labels = std::move(labels);
    ModelsByName models;
    models.emplace("shop", std::move(model));
    predictor.catalogue().Replace(std::move(models));
  }

  int64_t Counted(int code) {
    int64_t count = 0;
    for (SignatureFigures* const each : figures.All()) count += each->codes[static_cast<size_t>(code)].load();
    return count;
  }

  Figures figures{kBounds};
  std::shared_ptr<InFlight> in_flight;
  Predictor predictor;
};

// Starts a call whose run waits until it is released.
class HeldRun {
 public:
  std::function<bool(size_t)> run() {
    return [this](size_t calls) {
      sizes.push_back(calls);
      if (held.exchange(false)) {
        started.store(true);
        while (!released.load()) std::this_thread::sleep_for(microseconds(100));
      }
      return true;
    };
  }

  void AwaitStart() const {
    while (!started.load()) std::this_thread::sleep_for(microseconds(100));
  }

  std::atomic<bool> held{true}, started{false}, released{false};
  std::vector<size_t> sizes;  // of runs, which follow each other
};

TEST(Predictor, AnswersByTheVersionThatIsNamed) {
  Server server;
  server.Serve({std::make_shared<FakeServable>(3, &server.figures), std::make_shared<FakeServable>(7, &server.figures)},
               {{"stable", 3}});
  FakeExchange newest(RequestFor("shop")), labelled(RequestFor("shop", "stable")), wrong(RequestFor("shop", "beta"));
  FakeExchange numbered(Field(1, Field(1, "shop") + Field(2, "\x08\x03"))), unknown(RequestFor("nobody"));
  FakeExchange damaged("\xff");
  for (FakeExchange* const exchange : {&newest, &labelled, &wrong, &numbered, &unknown, &damaged}) {
    server.predictor.Predict(exchange);
    EXPECT_EQ(exchange->ended, 1);
  }
  EXPECT_EQ(newest.answer, "7");
  EXPECT_EQ(labelled.answer, "3");
  EXPECT_EQ(numbered.answer, "3");
  for (const FakeExchange* const exchange : {&wrong, &unknown, &damaged}) EXPECT_EQ(exchange->code, -1);
  EXPECT_EQ(server.in_flight->count(), 0);
  EXPECT_EQ(server.Counted(kOk), 3);
}

TEST(Predictor, KeepsUsableRequestIdsAndMakesOthers) {
  Server server;
  server.Serve({std::make_shared<FakeServable>(1, &server.figures)});
  for (const auto& [given, kept] : std::vector<std::pair<std::string, bool>>{
           {"trace-1:a", true}, {"two words", false}, {std::string(129, 'x'), false}, {"", false}, {"a\n", false}}) {
    FakeExchange exchange(RequestFor("shop"));
    exchange.given_id = given;
    server.predictor.Predict(&exchange);
    EXPECT_EQ(exchange.id == given, kept) << given;
    EXPECT_FALSE(exchange.id.empty());
  }
}

TEST(Predictor, WhatWaitsSharesRunsUpToALimit) {
  Server server;
  HeldRun held;
  server.Serve({std::make_shared<FakeServable>(1, &server.figures, held.run())});
  FakeExchange first(RequestFor("shop"));
  std::thread runner([&] { server.predictor.Predict(&first); });
  held.AwaitStart();
  std::vector<std::unique_ptr<FakeExchange>> others;
  for (int i = 0; i < 9; ++i) {
    others.push_back(std::make_unique<FakeExchange>(RequestFor("shop")));
    server.predictor.Predict(others.back().get());
    EXPECT_EQ(others.back()->ended, 0);
  }
  EXPECT_EQ(server.in_flight->count(), 10);
  held.released.store(true);
  runner.join();
  for (const auto& exchange : others) EXPECT_EQ(exchange->answer, "1");
  EXPECT_EQ(held.sizes, (std::vector<size_t>{1, 4, 4, 1}));
  EXPECT_EQ(server.in_flight->count(), 0);
}

TEST(Predictor, NothingRunsForCallersWhoLeftOrAreLate) {
  Server server;
  HeldRun held;
  server.Serve({std::make_shared<FakeServable>(1, &server.figures, held.run())});
  FakeExchange first(RequestFor("shop")), left(RequestFor("shop"));
  FakeExchange late(RequestFor("shop"), Clock::now() + std::chrono::milliseconds(5));
  std::thread runner([&] { server.predictor.Predict(&first); });
  held.AwaitStart();
  server.predictor.Predict(&left);
  server.predictor.Predict(&late);
  server.predictor.Cancel(&left);
  EXPECT_EQ(left.code, kCancelled);
  EXPECT_EQ(server.in_flight->count(), 2);
  server.predictor.Cancel(&first);  // runs already, and nobody waits for it
  EXPECT_EQ(server.in_flight->count(), 1);
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  held.released.store(true);
  runner.join();
  EXPECT_EQ(first.code, kCancelled);
  EXPECT_EQ(late.code, kDeadlineExceeded);
  EXPECT_EQ(held.sizes, (std::vector<size_t>{1}));
  FakeExchange gone(RequestFor("shop"));
  gone.has_left.store(true);  // and Cancel was called before
  server.predictor.Predict(&gone);
  EXPECT_EQ(gone.code, kCancelled);
  FakeExchange expired(RequestFor("shop"), Clock::now());
  server.predictor.Predict(&expired);
  EXPECT_EQ(expired.code, kDeadlineExceeded);
  int64_t lost = 0;
  EXPECT_EQ(server.predictor.TakeNotes(&lost).size(), 5U);
  EXPECT_EQ(server.in_flight->count(), 0);
}

TEST(Predictor, RefusesWhatIsTooMuchAndWhatComesAfterTheEnd) {
  Server server(1, 1);
  HeldRun held;
  server.Serve({std::make_shared<FakeServable>(1, &server.figures, held.run())});
  FakeExchange first(RequestFor("shop")), second(RequestFor("shop")), third(RequestFor("shop"));
  std::thread runner([&] { server.predictor.Predict(&first); });
  held.AwaitStart();
  server.predictor.Predict(&second);
  EXPECT_EQ(second.code, kResourceExhausted);
  server.predictor.Stop();
  server.predictor.Predict(&third);
  EXPECT_EQ(third.code, kUnavailable);
  held.released.store(true);
  runner.join();
  EXPECT_EQ(first.code, kOk);
  EXPECT_EQ(server.in_flight->count(), 0);
}

TEST(Predictor, FailedRunsAreLeftToPython) {
  Server server;
  server.Serve({std::make_shared<FakeServable>(1, &server.figures, [](size_t) { return false; })});
  FakeExchange exchange(RequestFor("shop"));
  server.predictor.Predict(&exchange);
  EXPECT_EQ(exchange.code, -1);
  EXPECT_EQ(server.Counted(kOk), 0);
  EXPECT_EQ(server.in_flight->count(), 0);
}

TEST(Predictor, AFailedRunOfARetiredVersionIsToBeRepeated) {
  Server server;
  std::shared_ptr<FakeServable> version;
  version = std::make_shared<FakeServable>(1, &server.figures, [&](size_t) {
    EXPECT_EQ(version->Retire(0), 1);
    return false;
  });
  server.Serve({version});
  FakeExchange exchange(RequestFor("shop"));
  server.predictor.Predict(&exchange);
  EXPECT_EQ(exchange.code, kUnavailable);
}

TEST(Predictor, HealthAndMetadata) {
  Server server;
  server.Serve({std::make_shared<FakeServable>(1, &server.figures)});
  server.predictor.SetHealth({{"", 1}, {"off", 2}, {"unknown", 0}});
  for (const auto& [service, answer] :
       std::vector<std::pair<std::string, std::string>>{{"", "\x08\x01"}, {"off", "\x08\x02"}, {"unknown", ""}}) {
    FakeExchange exchange(service.empty() ? "" : Field(1, service));
    server.predictor.CheckHealth(&exchange);
    EXPECT_EQ(exchange.code, kOk);
    EXPECT_EQ(exchange.answer, answer);
  }
  FakeExchange nobody(Field(1, "nobody")), known(RequestFor("shop") + Field(2, "signature_def"));
  server.predictor.CheckHealth(&nobody);
  EXPECT_EQ(nobody.code, -1);
  server.predictor.GetModelMetadata(&known);
  EXPECT_EQ(known.answer, "metadata");
  for (const std::string& request : {RequestFor("shop"), RequestFor("shop") + Field(2, "other")}) {
    FakeExchange exchange(request);
    server.predictor.GetModelMetadata(&exchange);
    EXPECT_EQ(exchange.code, -1);
  }
}

// Threads that call, cancel and stop waiting, while versions come and go and figures are taken.
TEST(PredictorConcurrently, EveryExchangeEndsOnce) {
  constexpr int kThreads = 4, kCalls = 2000;
  Server server(2, 64);
  std::atomic<bool> done{false};
  std::atomic<int64_t> answered{0}, forwarded{0}, total{0};
  const auto make = [&](int64_t version) {
    return std::make_shared<FakeServable>(version, &server.figures, [](size_t calls) { return calls != 3; });
  };
  server.Serve({make(1)});
  std::vector<std::thread> threads;
  for (int number = 0; number < kThreads; ++number) {
    threads.emplace_back([&, number] {
      std::mt19937 random(static_cast<unsigned>(number));
      std::vector<std::unique_ptr<FakeExchange>> mine;
      for (int call = 0; call < kCalls; ++call) {
        const auto deadline = random() % 8 == 0 ? Clock::now() + microseconds(random() % 50) : Clock::time_point::max();
        mine.push_back(std::make_unique<FakeExchange>(RequestFor("shop"), deadline));
        server.predictor.Predict(mine.back().get());
        if (random() % 8 == 0) server.predictor.Cancel(mine[random() % mine.size()].get());
      }
      for (const auto& exchange : mine) {
        while (exchange->ended.load() == 0) std::this_thread::yield();
        EXPECT_EQ(exchange->ended.load(), 1);
        answered += exchange->code >= 0;
        forwarded += exchange->code == -1;
      }
    });
  }
  std::thread changes([&] {
    std::shared_ptr<Servable> before;
    for (int64_t version = 2; !done.load(); ++version) {
      std::shared_ptr<Servable> next = make(version);
      server.Serve({next});
      if (before != nullptr) {
        EXPECT_EQ(before->Retire(10), 0);
      }
      before = std::move(next);
      int64_t lost = 0;
      server.predictor.TakeNotes(&lost);
      for (SignatureFigures* const each : server.figures.All()) {
        for (auto& code : each->codes) total += code.exchange(0);
        each->seconds.Take();
      }
    }
  });
  for (std::thread& thread : threads) thread.join();
  done.store(true);
  changes.join();
  EXPECT_EQ(answered + forwarded, int64_t{kThreads} * kCalls);
  for (int code = 0; code < kCodes; ++code) total += server.Counted(code);
  EXPECT_EQ(total, answered);
  EXPECT_EQ(server.in_flight->count(), 0);
}

}  // namespace
}  // namespace dpsr::serving
