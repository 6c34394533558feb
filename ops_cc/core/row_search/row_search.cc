#include "ops_cc/core/row_search/row_search.h"

#include <algorithm>
#include <cmath>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dpsr {
namespace {

// Rows that are fetched ahead of the one that is scored.
constexpr int64_t kAhead = 16;

#define DPSR_KERNELS "ops_cc/core/row_search/row_search_target.inc"
#include "ops_cc/core/instruction_sets.inc"

// Rows that are scored before those that cannot be among the best are thrown away.
constexpr int64_t kBlock = 1024;

bool IsBetter(const ScoredRow& a, const ScoredRow& b) { return a.score != b.score ? a.score > b.score : a.row < b.row; }

}  // namespace

std::vector<const RowKernels*> AllRowKernels() { return Available(); }

const RowKernels& BestRowKernels() {
  static const RowKernels& best = *Available().front();
  return best;
}

const std::vector<ScoredRow>& RowSearch::Search(const RowVectors& vectors, const int32_t* rows, int64_t count,
                                                const float* heads, int64_t num_heads, int64_t k) {
  const RowKernels& kernels = BestRowKernels();
  const size_t wanted = static_cast<size_t>(k);
  found_.clear();
  bool full = false;
  ScoredRow last{};  // of the k best so far, where there are k
  for (int64_t first = 0; first < count; first += kBlock) {
    const int64_t size = std::min(kBlock, count - first);
    const size_t before = found_.size();
    found_.resize(before + static_cast<size_t>(size));
    ScoredRow* const scored = found_.data() + before;
    if (vectors.floats != nullptr) {
      kernels.score_floats(vectors.floats, vectors.width, rows + first, size, heads, num_heads, scored);
    } else {
      kernels.score_bytes(vectors.bytes, vectors.width, rows + first, size, heads, num_heads, scored);
    }
    if (full) {
      const auto end = std::remove_if(found_.begin() + static_cast<int64_t>(before), found_.end(),
                                      [&](const ScoredRow& each) { return !IsBetter(each, last); });
      found_.erase(end, found_.end());
    }
    if (found_.size() >= 2 * wanted + kBlock || (!full && found_.size() >= wanted)) {
      std::nth_element(found_.begin(), found_.begin() + (k - 1), found_.end(), IsBetter);
      found_.resize(wanted);
      last = found_.back();
      full = true;
    }
  }
  if (found_.size() > wanted) {
    std::nth_element(found_.begin(), found_.begin() + (k - 1), found_.end(), IsBetter);
    found_.resize(wanted);
  }
  std::sort(found_.begin(), found_.end(), IsBetter);
  return found_;
}

}  // namespace dpsr
