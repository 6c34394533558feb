#include "ops_cc/core/bm25/query_lists.h"

#include <algorithm>
#include <cmath>

#include "ops_cc/core/bm25/search.h"

namespace dpsr {
namespace {

// Sums stay below 2^kSumBits, but for at most one step a term.
constexpr int kSumBits = 30;
constexpr int64_t kMostTerms = 1 << 16;

}  // namespace

bool QueryList::Contains(uint32_t wanted) const {
  if (is_bitmap()) return data[wanted >> 3] >> (wanted & 7) & 1;
  // A binary search without branches: the last offset that is not greater.
  int32_t first = 0;
  for (int32_t size = count; size > 1;) {
    const int32_t half = size / 2;
    first = offset(first + half) <= wanted ? first + half : first;
    size -= half;
  }
  return offset(first) == wanted;
}

std::string QueryLists::Open(const Bm25Index& index, const Bm25Query& query) {
  index_ = &index;
  terms_.clear();
  lists_.clear();
  present_.clear();
  if (query.size > kMostTerms) {
    return "the query has " + std::to_string(query.size) + " terms; expected at most " + std::to_string(kMostTerms);
  }
  for (int64_t i = 0; i < query.size; ++i) {
    const int32_t term = query.terms[i];
    if (term >= index.num_terms) {
      return "term " + std::to_string(i) + " is " + std::to_string(term) + "; expected an id below " +
             std::to_string(index.num_terms) + ", or a negative one where it is unknown";
    }
    if (!(query.weights[i] >= 0 && std::isfinite(query.weights[i]))) {
      return "the weight of term " + std::to_string(i) + " is " + std::to_string(query.weights[i]) +
             "; expected a finite one of at least 0";
    }
    if (term >= 0 && query.weights[i] > 0) terms_.push_back({term, query.weights[i]});
  }
  // Weights of equal terms are added in the order of the query.
  std::stable_sort(terms_.begin(), terms_.end(), [](const Term& a, const Term& b) { return a.id < b.id; });
  size_t kept = 0;
  for (size_t i = 0; i < terms_.size(); ++i) {
    if (kept > 0 && terms_[kept - 1].id == terms_[i].id) {
      terms_[kept - 1].weight += terms_[i].weight;
    } else {
      terms_[kept++] = terms_[i];
    }
  }
  terms_.resize(kept);
  for (Term& term : terms_) term.weight *= index.idf[term.id];
  terms_.erase(std::remove_if(terms_.begin(), terms_.end(), [](const Term& term) { return !(term.weight > 0); }),
               terms_.end());
  std::sort(terms_.begin(), terms_.end(),
            [](const Term& a, const Term& b) { return a.weight != b.weight ? a.weight > b.weight : a.id < b.id; });

  double most = 0;
  for (const Term& term : terms_) most += term.weight;
  if (index.priors != nullptr) {
    float prior = 0;
    for (int64_t range = 0; range < index.num_ranges; ++range) {
      prior = std::max(prior, index.range_values[2 * range + 1]);
    }
    most += prior;
  }
  if (!(most < 1e30)) return "the weights of the query times idf sum up to " + std::to_string(most) + "; too much";
  int exponent;
  std::frexp(std::max(most, 1e-30), &exponent);
  scale_ = std::ldexp(1.0f, kSumBits - exponent);
  step_ = std::ldexp(1.0f, exponent - kSumBits);
  norm_ = -1;

  for (size_t number = 0; number < terms_.size(); ++number) {
    const int32_t first = index.term_lists[terms_[number].id], last = index.term_lists[terms_[number].id + 1];
    if (first < 0 || first > last || last > index.num_lists) {
      return "the index is damaged: term " + std::to_string(terms_[number].id) + " has lists " + std::to_string(first) +
             " to " + std::to_string(last) + " of " + std::to_string(index.num_lists);
    }
    for (int32_t list = first; list < last; ++list) {
      const int64_t *const begin = index.list_starts + 2 * list, *const end = begin + 2;
      if (begin[0] < 0 || begin[0] > end[0] || end[0] > index.num_entries || begin[1] < 0 || begin[1] > end[1] ||
          end[1] > index.num_postings) {
        return "the index is damaged: list " + std::to_string(list) + " lies outside its entries or postings";
      }
      lists_.push_back({static_cast<int32_t>(number), index.list_weights[list], 0, 0, 0, nullptr,
                        index.entries + 2 * begin[0], index.entries + 2 * end[0], index.postings + begin[1],
                        index.postings + end[1]});
    }
  }
  return "";
}

uint32_t QueryLists::Steps(float value) const {
  constexpr float kMost = 1 << kSumBits;
  // Not NaN, nor beyond what sums may have, whatever the index holds.
  return static_cast<uint32_t>(std::lrint(std::min(std::max(0.0f, value * scale_), kMost)));
}

int32_t QueryLists::ContributionOf(const QueryList& list, float norm) const {
  const float part = list.weight / (list.weight + norm);
  return std::max<int32_t>(1, Steps(terms_[list.term].weight * std::min(part, 1.0f)));
}

void QueryLists::Contribute(float norm) {
  if (norm == norm_) return;
  norm_ = norm;
  for (QueryList& list : lists_) list.value = ContributionOf(list, norm);
}

bool QueryLists::MoveTo(int64_t range) {
  present_.clear();
  for (size_t i = 0; i < lists_.size(); ++i) {
    QueryList& list = lists_[i];
    while (list.entry < list.last_entry && list.entry[0] <= range) {
      const int32_t count = list.entry[1] + 1;
      const int64_t units = ContainerUnits(count);
      if (units > list.end - list.next) return false;
      if (list.entry[0] == range) {
        list.count = count;
        list.data = reinterpret_cast<const uint8_t*>(list.next);
        present_.push_back(static_cast<int32_t>(i));
      }
      list.next += units;
      list.entry += 2;
      if (list.entry[-2] == range) break;
    }
  }
  if (!present_.empty()) Contribute(index_->range_values[2 * range]);
  return true;
}

uint32_t QueryLists::Sum(uint32_t offset) const {
  uint32_t sum = 0;
  for (const int32_t i : present_) {
    if (lists_[i].Contains(offset)) sum += static_cast<uint32_t>(lists_[i].value);
  }
  return sum;
}

uint32_t QueryLists::ReachedBy(int64_t k) const {
  uint32_t reached = 0;
  for (const QueryList& list : lists_) {
    int64_t documents = 0;
    for (const uint16_t* entry = list.entry; entry < list.last_entry && documents < k; entry += 2) {
      documents += entry[1] + 1;
      if (documents < k || entry[0] >= index_->num_ranges) continue;
      reached = std::max<uint32_t>(reached, ContributionOf(list, index_->range_values[2 * entry[0]]));
    }
  }
  return reached;
}

}  // namespace dpsr
