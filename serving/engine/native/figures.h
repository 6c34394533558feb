// Counters of the data plane. Threads that answer requests add to them; Python takes what was added since the last
// time.

#ifndef DPSR_SERVING_ENGINE_NATIVE_FIGURES_H_
#define DPSR_SERVING_ENGINE_NATIVE_FIGURES_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

namespace dpsr::serving {

// Observations by bucket, and their sum.
struct Counts {
  std::vector<int64_t> buckets;  // not cumulative; the last one is above all bounds
  double sum = 0;
};

class AtomicHistogram {
 public:
  // `bounds` ascend; an observation belongs to the first bound that is not below it.
  explicit AtomicHistogram(const std::vector<double>& bounds) : bounds_(bounds), buckets_(bounds.size() + 1) {}

  void Observe(double value) {
    size_t bucket = 0;
    while (bucket < bounds_.size() && value > bounds_[bucket]) ++bucket;
    buckets_[bucket].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(static_cast<int64_t>(value / kUnit + 0.5), std::memory_order_relaxed);
  }

  Counts Take() {
    Counts taken;
    for (std::atomic<int64_t>& bucket : buckets_) taken.buckets.push_back(bucket.exchange(0));
    taken.sum = static_cast<double>(sum_.exchange(0)) * kUnit;
    return taken;
  }

 private:
  // The sum is kept as a whole number of these: nanoseconds of seconds; room for 9 billion rows between two takes.
  static constexpr double kUnit = 1e-9;

  const std::vector<double> bounds_;
  std::vector<std::atomic<int64_t>> buckets_;
  std::atomic<int64_t> sum_{0};
};

// Upper bounds of the buckets of each histogram.
struct Bounds {
  std::vector<double> seconds, batch_rows, batch_requests;
};

constexpr int kCodes = 17;  // of gRPC

// Of the requests of one signature.
struct SignatureFigures {
  SignatureFigures(std::string model, std::string version, std::string signature, const Bounds& bounds)
      : model(std::move(model)),
        version(std::move(version)),
        signature(std::move(signature)),
        seconds(bounds.seconds),
        batch_rows(bounds.batch_rows),
        batch_requests(bounds.batch_requests) {}

  const std::string model, version, signature;
  std::array<std::atomic<int64_t>, kCodes> codes{};
  AtomicHistogram seconds, batch_rows, batch_requests;
  // Items that were found, and rows with fewer of them than the signature returns.
  std::atomic<int64_t> results{0}, short_rows{0};
};

// All figures of a server. What was counted is kept after its version is gone.
class Figures {
 public:
  explicit Figures(Bounds bounds) : bounds_(std::move(bounds)) {}

  // Figures of a signature; of requests without a model for empty names. They live as long as this object.
  SignatureFigures* Of(const std::string& model, const std::string& version, const std::string& signature) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::unique_ptr<SignatureFigures>& found = signatures_[{model, version, signature}];
    if (found == nullptr) found = std::make_unique<SignatureFigures>(model, version, signature, bounds_);
    return found.get();
  }

  std::vector<SignatureFigures*> All() {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<SignatureFigures*> all;
    for (const auto& [key, figures] : signatures_) all.push_back(figures.get());
    return all;
  }

 private:
  const Bounds bounds_;
  std::mutex mutex_;
  std::map<std::tuple<std::string, std::string, std::string>, std::unique_ptr<SignatureFigures>> signatures_;
};

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_NATIVE_FIGURES_H_
