// The best documents of a Bm25Index for a query, exactly: those, with those scores, that adding up every document's
// contributions and sorting all documents gives. Ranges, and lists within them, that cannot change the answer are left
// out, as by MaxScore (Turtle and Flood, 1995) over blocks (Ding and Suel, 2011).
//
// A contribution is computed in float32 and rounded to whole steps, at least one; a step is the power of two that makes
// the sum of q_t * idf_t, and of the largest prior, 2^29 to 2^30 steps. Steps are added up as integers and the sum is
// rounded to float32, which is the score: it has the same bits in any order of the terms, and is nearer to the exact
// one than a sum of floats.
//
// No TensorFlow and no threads: callers share out queries. Complexity of a query: what is read of its lists.

#ifndef DPSR_OPS_CC_CORE_BM25_SEARCH_H_
#define DPSR_OPS_CC_CORE_BM25_SEARCH_H_

#include <cstdint>
#include <memory>
#include <string>

#include "ops_cc/core/bm25/bits.h"
#include "ops_cc/core/bm25/index.h"

namespace dpsr {

// Terms in any order; the weights of one that comes twice are added, negative terms are unknown and found nowhere.
struct Bm25Query {
  const int32_t* terms;
  const float* weights;  // not negative
  int64_t size;
};

// Bitmaps over rows (bit row % 8 of byte row / 8); nullptr for none.
struct Bm25Filter {
  const uint8_t* allowed;  // others are not found
  const uint8_t* removed;  // these are not found
};

// The working memory of a thread, reused between calls.
class Bm25Searcher {
 public:
  explicit Bm25Searcher(const BitKernels& kernels = BestBitKernels());
  ~Bm25Searcher();

  // The k best documents with a term of the query, by descending score and ascending row; -1 and a score of 0 where
  // there are fewer. Returns what is wrong with the query or with the lists of its terms; empty where nothing is.
  std::string Search(const Bm25Index& index, const Bm25Query& query, const Bm25Filter& filter, int64_t k, int32_t* rows,
                     float* scores);

  // The scores of given rows, the same bits as those of a search; 0 for a document without a term of the query, and for
  // rows of -1.
  std::string Score(const Bm25Index& index, const Bm25Query& query, const int32_t* rows, int64_t count, float* scores);

 private:
  struct Memory;
  std::unique_ptr<Memory> memory_;
};

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_BM25_SEARCH_H_
