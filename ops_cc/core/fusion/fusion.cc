#include "ops_cc/core/fusion/fusion.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace dpsr {
namespace {

bool IsBetter(const Fused& a, const Fused& b) { return a.score > b.score || (a.score == b.score && a.row < b.row); }

}  // namespace

size_t Fusion::SlotOf(int32_t row) const {
  const size_t mask = slots_.size() - 1;
  // Fibonacci hashing: the upper bits of the product depend on all bits of the row.
  size_t slot = (static_cast<uint64_t>(row) * 0x9E3779B97F4A7C15u) >> (64 - bits_);
  while (slots_[slot] >= 0 && fused_[slots_[slot]].row != row) slot = (slot + 1) & mask;
  return slot;
}

Fused* Fusion::Find(int32_t row) {
  const int32_t place = slots_[SlotOf(row)];
  return place < 0 ? nullptr : &fused_[place];
}

Fused* Fusion::Place(int32_t row) {
  const size_t slot = SlotOf(row);
  if (slots_[slot] < 0) {
    slots_[slot] = static_cast<int32_t>(fused_.size());
    fused_.push_back({0.0f, row, 0, 0});
  }
  return &fused_[slots_[slot]];
}

const std::vector<Fused>& Fusion::Join(const std::vector<RankedList>& lists, Combine combine, const Clicks* clicks,
                                       int64_t k) {
  int64_t rows = 0;
  for (const RankedList& list : lists) rows += list.size;
  bits_ = 4;
  while ((int64_t{1} << bits_) < 2 * rows) ++bits_;  // a load of at most a half
  slots_.assign(size_t{1} << bits_, -1);
  fused_.clear();
  for (size_t number = 0; number < lists.size(); ++number) {
    const RankedList& list = lists[number];
    for (int64_t i = 0; i < list.size; ++i) {
      if (list.rows[i] < 0) continue;
      Fused* const fused = Place(list.rows[i]);
      if (combine == Combine::kSum || fused->lists == 0) fused->score += list.scores[i];
      if (fused->lists == 0) fused->place = static_cast<int32_t>(i);
      fused->lists |= int32_t{1} << number;
    }
  }
  if (clicks != nullptr && !fused_.empty()) CountClicks(*clicks);
  for (Fused& fused : fused_) {  // infinite scores may cancel out, and what has no order cannot be sorted
    if (std::isnan(fused.score)) fused.score = std::numeric_limits<float>::lowest();
  }
  const auto last = fused_.begin() + std::min<int64_t>(k, static_cast<int64_t>(fused_.size()));
  if (last != fused_.end()) std::nth_element(fused_.begin(), last, fused_.end(), IsBetter);
  std::sort(fused_.begin(), last, IsBetter);
  fused_.erase(last, fused_.end());
  return fused_;
}

void Fusion::CountClicks(const Clicks& clicks) {
  counts_.assign(fused_.size(), 0.0f);
  for (int64_t i = 0; i < clicks.counts.size; ++i) {
    if (clicks.counts.rows[i] < 0) continue;
    if (const Fused* const fused = Find(clicks.counts.rows[i]))
      counts_[fused - fused_.data()] = clicks.counts.scores[i];
  }
  float best = fused_.front().score;
  for (const Fused& fused : fused_) best = std::max(best, fused.score);
  double total = 0.0;
  for (const Fused& fused : fused_) total += std::exp((fused.score - best) / clicks.temperature);
  // log(count + weight * p) by the logarithm of p, which stays finite where p is 0 in float32.
  const float log_total = static_cast<float>(std::log(total)) - std::log(clicks.weight);
  for (size_t i = 0; i < fused_.size(); ++i) {
    const float prior = (fused_[i].score - best) / clicks.temperature - log_total;
    const float count = counts_[i];
    fused_[i].score = count > 0.0f ? std::log(count) + std::log1p(std::exp(prior - std::log(count))) : prior;
  }
}

}  // namespace dpsr
