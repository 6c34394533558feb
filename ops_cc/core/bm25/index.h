// An inverted index for BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009, section 3.4) as
// flat arrays, which a SavedModel keeps and a search reads where they lie.
//
//   score(q, d) = prior(d) + sum_t q_t * idf_t * tf / (tf + k1 * (1 - b + b * length(d) / average length))
//
// in the variant of Lucene: idf_t = log(1 + (N - df + 0.5) / (df + 0.5)), without the constant factor k1 + 1. The term
// frequency tf is the sum of the weights of the fields that a term stands in, once for each occurrence.
//
// Documents stand in the order of their lengths. A range is at most kRangeDocuments neighbours of one length, and a
// list the documents that have a term with one tf. So a list contributes one number to all its documents of a range:
// upper bounds are scores, and a document's score follows from the set of lists that it is in.
//
// A list is stored by ranges, as Roaring bitmaps are (Chambi et al., 2016): the few documents of a range as 16-bit
// offsets in ascending order, many as a bitmap.

#ifndef DPSR_OPS_CC_CORE_BM25_INDEX_H_
#define DPSR_OPS_CC_CORE_BM25_INDEX_H_

#include <cstdint>
#include <string>

namespace dpsr {

constexpr int64_t kRangeDocuments = 1 << 14;
// A bitmap of a range, in units of 16 bits.
constexpr int64_t kBitmapUnits = kRangeDocuments / 16;
// More documents than this lie in a bitmap, which then has four times the size of their offsets at most.
constexpr int64_t kLongestArray = kBitmapUnits / 4;
// Ranges are numbered by 16 bits.
constexpr int64_t kMostRanges = 1 << 16;

// Units of the documents of one list in one range.
constexpr int64_t ContainerUnits(int64_t documents) { return documents > kLongestArray ? kBitmapUnits : documents; }

// Points into arrays of the caller. The place of a document is its number in the order of the index, its row the one
// that the caller knows it by.
struct Bm25Index {
  int64_t num_documents;  // N
  int64_t num_ranges;     // R
  int64_t num_terms;      // V
  int64_t num_lists;      // L
  int64_t num_entries;    // E
  int64_t num_postings;   // P

  const int32_t* rows;          // [N], by place; ascending within a range
  const int32_t* places;        // [N], by row
  const float* priors;          // [N], by place, not negative; nullptr for none
  const int32_t* range_starts;  // [R + 1], places
  const float* range_values;    // [R, 2]: k1 * (1 - b + b * length / average length), largest prior
  const float* idf;             // [V]
  const int32_t* term_lists;    // [V + 1], first list of every term
  const float* list_weights;    // [L], tf of every list, ascending within a term
  const int64_t* list_starts;   // [L + 1, 2], first entry and first unit of every list
  const uint16_t* entries;      // [E, 2], range and number of documents - 1
  const uint16_t* postings;     // [P], units: offsets of documents within their range, or bitmaps
};

// What is wrong with an index, as far as can be seen in the time of a search; empty where nothing is. Functions of an
// index without a problem stay inside its arrays, whatever these hold.
std::string IndexProblem(const Bm25Index& index);

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_BM25_INDEX_H_
