// The documents of one range after the other that are among the best of a query.

#ifndef DPSR_OPS_CC_CORE_BM25_RANGE_SEARCH_H_
#define DPSR_OPS_CC_CORE_BM25_RANGE_SEARCH_H_

#include <cstdint>
#include <vector>

#include "ops_cc/core/bm25/bits.h"
#include "ops_cc/core/bm25/query_lists.h"
#include "ops_cc/core/bm25/search.h"
#include "ops_cc/core/bm25/threshold.h"
#include "ops_cc/core/bm25/top.h"

namespace dpsr {

// Chooses for every range the cheapest of three ways that find the same documents:
//   probing   where no document gets in without one term that few have: each of them is looked up in the other lists;
//   program   a ThresholdProgram of the lists' bitmaps;
//   sums      the contributions of all lists are added up, for queries of too many terms for a program.
class RangeSearch {
 public:
  explicit RangeSearch(const BitKernels& kernels) : kernels_(kernels) {}

  // Begins a query for the k best, of which none is below `reached` steps.
  void Open(const Bm25Index& index, const Bm25Filter& filter, int64_t k, uint32_t reached, QueryLists* query);

  // Looks at a range that the query's lists were moved to.
  void Search(int64_t range);

  TopDocuments& top() { return top_; }

 private:
  // The lists of one term that have documents in the range: present[first:last].
  struct Group {
    int32_t first;
    int32_t last;
    int64_t most;   // greatest contribution
    int64_t count;  // documents
  };
  struct Found {
    int64_t place;
    uint32_t sum;
  };
  struct CachedProgram {
    uint64_t lists;  // that it is a function of
    bool usable;
    int64_t need;  // that it was compiled for
    ThresholdProgram program;
  };

  void GroupLists();
  const Group* TermToProbe() const;
  void Probe(const Group& group);
  const ThresholdProgram* Program();
  void Run(const ThresholdProgram& program);
  uint32_t SpreadLists(const ThresholdProgram& program);
  void AddUp();
  uint32_t Sum(uint32_t offset) const;
  void Find(uint32_t offset, uint32_t sum);
  void TakeFound();
  template <typename Function>
  void ForEachBit(const uint8_t* bits, uint32_t blocks, Function function) const;

  const BitKernels& kernels_;
  const Bm25Index* index_ = nullptr;
  Bm25Filter filter_ = {};
  QueryLists* query_ = nullptr;
  TopDocuments top_;

  // Of the range at hand.
  int64_t start_ = 0;
  int64_t size_ = 0;
  int64_t need_ = 0;   // steps that a document's lists contribute at least
  int64_t bound_ = 0;  // and at most
  std::vector<Group> groups_;
  std::vector<Found> found_;

  float norm_ = -1;  // of the cached programs
  std::vector<CachedProgram> programs_;
  size_t oldest_ = 0;
  std::vector<const uint8_t*> bits_;  // by list; nullptr where it is an array that is not spread out
  std::vector<uint8_t> spread_;       // bitmaps by list, zeros between ranges
  std::vector<uint8_t> values_;       // bitmaps by node of a program
  std::vector<int32_t> sums_;         // zeros between ranges
};

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_BM25_RANGE_SEARCH_H_
