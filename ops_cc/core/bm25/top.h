// The best K of documents that come one by one, by descending score and ascending row. Scores are whole numbers below
// 2^31, and compared as float32.

#ifndef DPSR_OPS_CC_CORE_BM25_TOP_H_
#define DPSR_OPS_CC_CORE_BM25_TOP_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
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
    threshold_ = least == 0 ? 0 : Key(least, ~uint32_t{0}) - 1;
  }

  // No document of a score below this, and of this row or a higher one, could be among the best.
  int64_t least_score(uint32_t row) const {
    const int64_t least = static_cast<int64_t>(Score(threshold_ + 1));
    // The next lower scores may be the same number in float32.
    return Admits(least, row) ? least - (least >> 24) : least + 1;
  }

  bool Admits(int64_t score, uint32_t row) const { return Key(score, row) > threshold_; }

  // One that is admitted.
  void Push(int64_t score, uint32_t row) {
    keys_.push_back(Key(score, row));
    if (keys_.size() == most_) KeepBest();
  }

  // The best ones, sorted; rows and scores of key i.
  const std::vector<uint64_t>& Sorted() {
    if (keys_.size() > static_cast<size_t>(k_)) KeepBest();
    std::sort(keys_.begin(), keys_.end(), std::greater<uint64_t>());
    return keys_;
  }
  static float Score(uint64_t key) {
    const uint32_t bits = static_cast<uint32_t>(key >> 32);
    float score;
    std::memcpy(&score, &bits, sizeof(score));
    return score;
  }
  static uint32_t Row(uint64_t key) { return ~static_cast<uint32_t>(key); }

 private:
  // The bits of numbers that are not negative are in the order of the numbers.
  static uint64_t Key(int64_t score, uint32_t row) {
    const float rounded = static_cast<float>(score);
    uint32_t bits;
    std::memcpy(&bits, &rounded, sizeof(bits));
    return uint64_t{bits} << 32 | static_cast<uint32_t>(~row);
  }

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
