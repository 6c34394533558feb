// Builds the arrays of a Bm25Index from the terms of documents.
//
// No TensorFlow and no threads: parts of the terms are encoded independently of each other, by any threads, and
// stand one after the other in the index. Memory: the input, 16 bytes a document, and 8 bytes an occurrence of each
// part that is being encoded.

#ifndef DPSR_OPS_CC_CORE_BM25_BUILD_H_
#define DPSR_OPS_CC_CORE_BM25_BUILD_H_

#include <cstdint>
#include <vector>

#include "ops_cc/core/bm25/source.h"

namespace dpsr {

// A length in 12 bits, as BM25 takes it, so that few lengths differ whatever the weights of the fields. Whole numbers
// up to 4,096 are exact.
float RoundedLength(float length);

// The lists of neighbouring terms; places of entries and units count from the part's first.
struct Bm25Part {
  std::vector<float> idf;
  std::vector<int32_t> lists;  // of every term
  std::vector<float> list_weights;
  std::vector<int64_t> list_ends;  // [lists, 2]
  std::vector<uint16_t> entries;
  std::vector<uint16_t> postings;
  bool damaged = false;  // the earlier index is, and the part is not complete
};

class Bm25Builder {
 public:
  // Orders the documents by length, those of one length by descending prior, then by row.
  explicit Bm25Builder(const Bm25Source& source);

  // Whether the earlier index is seen to be damaged; there is nothing to be encoded then.
  bool damaged() const { return damaged_; }

  // The ordered documents; as in Bm25Index.
  const std::vector<int32_t>& rows() const { return rows_; }
  const std::vector<int32_t>& range_starts() const { return range_starts_; }
  const std::vector<float>& range_values() const { return range_values_; }
  const std::vector<float>& range_lengths() const { return range_lengths_; }
  float average_length() const { return average_length_; }

  int64_t num_parts() const { return static_cast<int64_t>(part_terms_.size()) - 1; }
  int64_t first_term(int64_t part) const { return part_terms_[part]; }

  // Thread-safe.
  Bm25Part Encode(int64_t part) const;

 private:
  void OrderDocuments();
  std::vector<float> Lengths() const;
  void CutRanges(const std::vector<float>& lengths);
  bool PlaceEarlier();
  bool CutParts();

  const Bm25Source& source_;
  float average_length_;
  std::vector<int32_t> rows_;
  std::vector<int32_t> range_starts_ = {0};
  std::vector<float> range_values_;
  std::vector<float> range_lengths_;
  std::vector<int32_t> filled_;            // places of the documents with a term in a field
  std::vector<int32_t> place_of_earlier_;  // by place in the earlier index; -1 for a document that is left out
  bool damaged_ = false;
  std::vector<int32_t> occurrences_;  // [V], in the fields
  std::vector<int64_t> part_terms_ = {0};
};

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_BM25_BUILD_H_
