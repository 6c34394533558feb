// The best K of documents that come one by one, by descending score and ascending row.

#ifndef DPSR_OPS_CC_CORE_BM25_TOP_H_
#define DPSR_OPS_CC_CORE_BM25_TOP_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace dpsr {

class TopDocuments {
 public:
  // Forgets everything. Scores below `least` are known not to be among the best.
  void Reset(int64_t k, uint32_t least) {
    k_ = k;
    keys_.clear();
    most_ = 2 * static_cast<size_t>(k) + 256;
    threshold_ = least == 0 ? 0 : (uint64_t{least} << 32) - 1;
  }

  // Whether a document of at least this score could be among the best.
  uint32_t least_score() const { return static_cast<uint32_t>((threshold_ + 1) >> 32); }
  // The same for documents of no lower row.
  uint32_t least_score(uint32_t row) const { return least_score() + (Key(least_score(), row) <= threshold_); }

  bool Admits(uint32_t score, uint32_t row) const { return Key(score, row) > threshold_; }

  // One that is admitted.
  void Push(uint32_t score, uint32_t row) {
    keys_.push_back(Key(score, row));
    if (keys_.size() == most_) KeepBest();
  }

  // The best ones, sorted; rows and scores of key i.
  const std::vector<uint64_t>& Sorted() {
    if (keys_.size() > static_cast<size_t>(k_)) KeepBest();
    std::sort(keys_.begin(), keys_.end(), std::greater<uint64_t>());
    return keys_;
  }
  static uint32_t Score(uint64_t key) { return static_cast<uint32_t>(key >> 32); }
  static uint32_t Row(uint64_t key) { return ~static_cast<uint32_t>(key); }

 private:
  static uint64_t Key(uint32_t score, uint32_t row) { return uint64_t{score} << 32 | static_cast<uint32_t>(~row); }

  void KeepBest() {
    std::nth_element(keys_.begin(), keys_.begin() + (k_ - 1), keys_.end(), std::greater<uint64_t>());
    keys_.resize(k_);
    threshold_ = keys_.back();
  }

  int64_t k_ = 0;
  size_t most_ = 0;
  uint64_t threshold_ = 0;
  std::vector<uint64_t> keys_;
};

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_BM25_TOP_H_
