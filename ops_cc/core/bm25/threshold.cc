#include "ops_cc/core/bm25/threshold.h"

#include <algorithm>
#include <limits>

namespace dpsr {

bool ThresholdProgram::Compile(const std::vector<Contribution>& contributions, int64_t need) {
  contributions_ = contributions;
  terms_.clear();
  parts_.clear();
  open_.clear();
  nodes_.clear();
  branches_.clear();
  const int32_t count = static_cast<int32_t>(contributions_.size());
  for (int32_t first = 0; first < count;) {
    int32_t last = first;
    int64_t most = 0;
    for (; last < count && contributions_[last].term == contributions_[first].term; ++last) {
      most = std::max<int64_t>(most, contributions_[last].value);
    }
    terms_.push_back({first, last, most});
    first = last;
  }
  for (size_t term = terms_.size(); term-- > 1;) terms_[term - 1].rest += terms_[term].rest;
  const Part root = Find(0, need);
  root_ = root.node;
  above_ = root.above;
  most_ = root.most;
  lists_.clear();
  for (const ThresholdBranch& branch : branches_) lists_.push_back(branch.list);
  std::sort(lists_.begin(), lists_.end());
  lists_.erase(std::unique(lists_.begin(), lists_.end()), lists_.end());
  return static_cast<int64_t>(nodes_.size()) <= kMostNodes;
}

ThresholdProgram::Part ThresholdProgram::Find(int32_t term, int64_t need) {
  constexpr int64_t kInfinite = std::numeric_limits<int64_t>::max() / 2;
  if (need <= 0) return {term, kAll, -kInfinite, 0};
  if (term == static_cast<int32_t>(terms_.size())) return {term, kNone, 0, kInfinite};
  if (need > terms_[term].rest) return {term, kNone, terms_[term].rest, kInfinite};
  for (const Part& part : parts_) {
    if (part.term == term && part.above < need && need <= part.most) return part;
  }
  Part found = Find(term + 1, need);
  found.term = term;
  const int32_t low = found.node;
  const size_t first_open = open_.size();
  for (int32_t i = terms_[term].first; i < terms_[term].last; ++i) {
    if (static_cast<int64_t>(nodes_.size()) > kMostNodes) return found;  // to be given up
    const int64_t value = contributions_[i].value;
    const Part child = Find(term + 1, need - value);
    found.above = std::max(found.above, child.above + value);
    found.most = std::min(found.most, child.most + value);
    if (child.node != low) open_.push_back({contributions_[i].list, child.node});
  }
  if (open_.size() > first_open) {
    const int32_t first = static_cast<int32_t>(branches_.size());
    branches_.insert(branches_.end(), open_.begin() + first_open, open_.end());
    open_.resize(first_open);
    found.node = kFirstNode + static_cast<int32_t>(nodes_.size());
    nodes_.push_back({low, first, static_cast<int32_t>(branches_.size())});
  }
  parts_.push_back(found);
  return found;
}

}  // namespace dpsr
