// What an index is built of.

#ifndef DPSR_OPS_CC_CORE_BM25_SOURCE_H_
#define DPSR_OPS_CC_CORE_BM25_SOURCE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "ops_cc/core/bm25/earlier.h"

namespace dpsr {

// The terms of one field of all documents: those of document i are terms[offsets[i]:offsets[i + 1]], in any order, as
// often as they occur.
struct Bm25Field {
  const int64_t* offsets;  // [N + 1]
  const int32_t* terms;
  int64_t num_terms;
  float weight;  // of an occurrence, positive
};

// Points into arrays of the caller.
struct Bm25Source {
  std::vector<Bm25Field> fields;
  int64_t num_documents;
  int64_t num_terms;  // V
  float k1;
  float b;
  const float* priors;   // [N], by row, not negative; nullptr for none
  const float* idf;      // [V], of a larger catalogue that this is a segment of; nullptr for the source's own
  float average_length;  // of that catalogue; 0 for the source's own
  // Has the postings of documents that have no term in the fields, and no priors; nullptr for none.
  const Bm25Earlier* earlier = nullptr;
};

// What is wrong with a source; empty where nothing is. Bm25Builder trusts sources without a problem.
std::string SourceProblem(const Bm25Source& source);

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_BM25_SOURCE_H_
