// The lists of a query's terms: a cursor over the ranges of each, and what it contributes.

#ifndef DPSR_OPS_CC_CORE_BM25_QUERY_LISTS_H_
#define DPSR_OPS_CC_CORE_BM25_QUERY_LISTS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "ops_cc/core/bm25/bits.h"
#include "ops_cc/core/bm25/index.h"

namespace dpsr {

struct Bm25Query;

// One list, at one range.
struct QueryList {
  int32_t term;         // number within the query
  float weight;         // tf
  int32_t count;        // documents in the range at hand
  int32_t value;        // contribution in the range at hand, in steps
  uint32_t touched;     // blocks of its bits that are set, where these were spread out
  const uint8_t* data;  // 16-bit offsets or a bitmap

  const uint16_t* entry;
  const uint16_t* last_entry;
  const uint16_t* next;
  const uint16_t* end;

  bool is_bitmap() const { return count > kLongestArray; }
  uint32_t offset(int64_t i) const {
    uint16_t offset;
    __builtin_memcpy(&offset, data + 2 * i, sizeof(offset));
    // Stays inside a range whatever the index holds.
    return offset & (kRangeDocuments - 1);
  }
  bool Contains(uint32_t offset) const;
};

class QueryLists {
 public:
  // Reads a query. Returns what is wrong with it or with its lists in the index; empty where nothing is.
  std::string Open(const Bm25Index& index, const Bm25Query& query);

  // Lists of one term stand together, terms by descending contribution.
  std::vector<QueryList>& lists() { return lists_; }
  size_t num_terms() const { return terms_.size(); }
  // Those with documents in the range at hand.
  const std::vector<int32_t>& present() const { return present_; }
  // Contributions and scores are whole numbers of steps, below 2^31.
  float step() const { return step_; }
  uint32_t Steps(float value) const;

  // Moves to a range, which is higher than the one before. Returns false where a list is damaged.
  bool MoveTo(int64_t range);

  // The contributions of all lists to a document of the range at hand.
  uint32_t Sum(uint32_t offset) const;

  // Steps that at least k documents reach by one list alone.
  uint32_t ReachedBy(int64_t k) const;

 private:
  void Contribute(float norm);
  int32_t ContributionOf(const QueryList& list, float norm) const;

  struct Term {
    int32_t id;
    float weight;  // times idf
  };

  const Bm25Index* index_;
  std::vector<Term> terms_;
  std::vector<QueryList> lists_;
  std::vector<int32_t> present_;
  float norm_;
  float scale_;
  float step_;
};

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_BM25_QUERY_LISTS_H_
