#include "ops_cc/core/bm25/search.h"

#include <algorithm>
#include <vector>

#include "ops_cc/core/bm25/query_lists.h"
#include "ops_cc/core/bm25/range_search.h"

namespace dpsr {

struct Bm25Searcher::Memory {
  QueryLists query;
  RangeSearch ranges;
  std::vector<uint64_t> places;
};

namespace {

constexpr char kDamaged[] = "the index is damaged: a list ends within a range";

}  // namespace

Bm25Searcher::Bm25Searcher(const BitKernels& kernels) : memory_(new Memory{{}, RangeSearch(kernels), {}}) {}
Bm25Searcher::~Bm25Searcher() = default;

std::string Bm25Searcher::Search(const Bm25Index& index, const Bm25Query& query, const Bm25Filter& filter, int64_t k,
                                 int32_t* rows, float* scores) {
  QueryLists& lists = memory_->query;
  const std::string problem = lists.Open(index, query);
  if (!problem.empty()) return problem;
  std::fill(rows, rows + k, -1);
  std::fill(scores, scores + k, 0.0f);
  const int64_t most = std::min(k, index.num_documents);
  if (most == 0) return "";

  RangeSearch& ranges = memory_->ranges;
  const bool filtered = filter.allowed != nullptr || filter.removed != nullptr;
  ranges.Open(index, filter, most, filtered ? 0 : lists.ReachedBy(most), &lists);
  for (int64_t range = 0; range < index.num_ranges; ++range) {
    if (!lists.MoveTo(range)) return kDamaged;
    if (!lists.present().empty()) ranges.Search(range);
  }
  const std::vector<uint64_t>& found = ranges.top().Sorted();
  for (size_t i = 0; i < found.size(); ++i) {
    rows[i] = static_cast<int32_t>(TopDocuments::Row(found[i]));
    scores[i] = TopDocuments::Score(found[i]) * lists.step();
  }
  return "";
}

std::string Bm25Searcher::Score(const Bm25Index& index, const Bm25Query& query, const int32_t* rows, int64_t count,
                                float* scores) {
  QueryLists& lists = memory_->query;
  const std::string problem = lists.Open(index, query);
  if (!problem.empty()) return problem;
  std::vector<uint64_t>& places = memory_->places;
  places.clear();
  std::fill(scores, scores + count, 0.0f);
  for (int64_t i = 0; i < count; ++i) {
    if (rows[i] < -1 || rows[i] >= index.num_documents) {
      return "row " + std::to_string(i) + " is " + std::to_string(rows[i]) + "; expected one below " +
             std::to_string(index.num_documents) + ", or -1 for none";
    }
    if (rows[i] < 0) continue;
    const int64_t place = index.places[rows[i]];
    if (place < 0 || place >= index.num_documents) {
      return "the index is damaged: row " + std::to_string(rows[i]) + " has place " + std::to_string(place);
    }
    places.push_back(static_cast<uint64_t>(place) << 32 | static_cast<uint64_t>(i));
  }
  std::sort(places.begin(), places.end());
  int64_t range = -1;
  for (const uint64_t key : places) {
    const int64_t place = static_cast<int64_t>(key >> 32);
    if (range < 0 || place >= index.range_starts[range + 1]) {
      const int32_t* const starts = index.range_starts;
      range = std::upper_bound(starts + range + 1, starts + index.num_ranges, place) - starts - 1;
      if (!lists.MoveTo(range)) return kDamaged;
    }
    const uint32_t sum = lists.Sum(static_cast<uint32_t>(place - index.range_starts[range]));
    if (sum == 0) continue;
    const uint32_t prior = index.priors == nullptr ? 0 : lists.Steps(index.priors[place]);
    scores[static_cast<uint32_t>(key)] = static_cast<float>(sum + prior) * lists.step();
  }
  return "";
}

}  // namespace dpsr
