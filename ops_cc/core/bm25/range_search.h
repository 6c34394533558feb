// The documents of one range after the other that are among the best of a query.

#ifndef DPSR_OPS_CC_CORE_BM25_RANGE_SEARCH_H_
#define DPSR_OPS_CC_CORE_BM25_RANGE_SEARCH_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ops_cc/core/bm25/bits.h"
#include "ops_cc/core/bm25/query_lists.h"
#include "ops_cc/core/bm25/search.h"
#include "ops_cc/core/bm25/threshold.h"
#include "ops_cc/core/bm25/top.h"

namespace dpsr {

// Three ways find the same documents of a range; the cheapest is taken.
//   Probing: the documents of some lists are looked up in the others. Where all other lists together do not reach what
//     is needed, nothing else is to be done: the essential lists of MaxScore, chosen anew for every range.
//   A ThresholdProgram of the bitmaps of all lists, but for very short ones, which are probed.
//   The sums of all lists' contributions, where the query has too many terms for a program.
class RangeSearch {
 public:
  explicit RangeSearch(const BitKernels& kernels) : kernels_(kernels) {}

  // Begins a query for the k best, of which none is below `reached` steps.
  void Open(const Bm25Index& index, const Bm25Filter& filter, int64_t k, uint32_t reached, QueryLists* query);

  // Looks at a range that the query's lists were moved to.
  void Search(int64_t range);

  TopDocuments& top() { return top_; }

 private:
  // A list with documents in the range.
  struct Present {
    QueryList* list;
    int32_t number;
    int32_t count;
    int64_t bound;        // most that this list and those after it contribute to a document
    const uint8_t* bits;  // nullptr where it is an array that is not spread out
  };
  struct Found {
    int64_t place;
    uint32_t sum;
  };
  struct CachedProgram {
    uint64_t lists;  // that it is a function of
    int64_t need;    // that it was compiled for
    bool usable;
    ThresholdProgram program;
  };

  void SortLists();
  void SearchLists();
  void Probe(size_t last);
  void LookUp(size_t from, uint32_t offset);
  const ThresholdProgram* Program(size_t first);
  void Run(const ThresholdProgram& program, size_t first);
  uint32_t SpreadLists(const ThresholdProgram& program, size_t first);
  void AddUp();
  uint32_t Sum(size_t first, uint32_t offset) const;
  void Find(uint32_t offset, uint32_t sum);
  void TakeFound();

  const BitKernels& kernels_;
  const Bm25Index* index_ = nullptr;
  Bm25Filter filter_ = {};
  QueryLists* query_ = nullptr;
  TopDocuments top_;

  // Of the range at hand.
  int64_t start_ = 0;
  int64_t size_ = 0;
  int64_t need_ = 0;            // steps that a document's lists contribute at least
  std::vector<Present> lists_;  // by ascending count
  std::vector<int64_t> most_;   // by term
  std::vector<Found> found_;

  float norm_ = -1;  // of the cached programs
  std::vector<CachedProgram> programs_;
  size_t num_programs_ = 0;
  size_t oldest_ = 0;
  std::vector<Contribution> contributions_;
  std::vector<const uint8_t*> bits_;  // by number of the list
  std::vector<uint8_t> spread_;       // bitmaps by number of the list, zeros between ranges
  std::vector<uint8_t> values_;       // bitmaps by node of a program
  std::vector<int32_t> sums_;         // zeros between ranges
};

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_BM25_RANGE_SEARCH_H_
