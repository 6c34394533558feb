// Postings of an index for a later one: that of a catalogue of which most documents are the same.

#ifndef DPSR_OPS_CC_CORE_BM25_EARLIER_H_
#define DPSR_OPS_CC_CORE_BM25_EARLIER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "ops_cc/core/bm25/index.h"

namespace dpsr {

// Documents and terms of an index, and what they are in a later one.
struct Bm25Earlier {
  Bm25Index index;
  const float* range_lengths;  // [R], of the documents of every range
  const int32_t* documents;    // [N], by row: the later row of a document, ascending; -1 for one that is left out
  const int32_t* terms;        // [V of the later index]: the term of the earlier one; -1 for none
};

// The lists of a term: first to last - 1. False where the index is damaged.
bool ListsOf(const Bm25Index& index, int64_t term, int32_t* first, int32_t* last);

// Appends the places of the documents of a list, in ascending order. False where the index is damaged.
bool AppendPlaces(const Bm25Index& index, int64_t list, std::vector<int32_t>* places);

// How many of the documents of which kept[row] is not 0 have each of the terms first to last - 1. False where the index
// is damaged.
bool CountDocuments(const Bm25Index& index, const uint8_t* kept, int64_t first, int64_t last, int32_t* counts);

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_BM25_EARLIER_H_
