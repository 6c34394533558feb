#include "ops_cc/core/bm25/index.h"

namespace dpsr {

std::string IndexProblem(const Bm25Index& index) {
  const auto differs = [](const char* name, int64_t found, int64_t expected) {
    return std::string(name) + " is " + std::to_string(found) + "; expected " + std::to_string(expected);
  };
  if (index.num_ranges > kMostRanges) {
    return std::to_string(index.num_ranges) + " ranges; expected at most " + std::to_string(kMostRanges);
  }
  if (index.range_starts[0] != 0) return differs("range_starts[0]", index.range_starts[0], 0);
  for (int64_t range = 0; range < index.num_ranges; ++range) {
    const int64_t documents = int64_t{index.range_starts[range + 1]} - index.range_starts[range];
    if (documents < 1 || documents > kRangeDocuments) {
      return "range " + std::to_string(range) + " has " + std::to_string(documents) + " documents; expected 1 to " +
             std::to_string(kRangeDocuments);
    }
  }
  if (index.range_starts[index.num_ranges] != index.num_documents) {
    return differs("the end of the ranges", index.range_starts[index.num_ranges], index.num_documents);
  }
  if (index.term_lists[0] != 0) return differs("term_lists[0]", index.term_lists[0], 0);
  if (index.term_lists[index.num_terms] != index.num_lists) {
    return differs("the end of term_lists", index.term_lists[index.num_terms], index.num_lists);
  }
  if (index.list_starts[0] != 0) return differs("list_starts[0, 0]", index.list_starts[0], 0);
  if (index.list_starts[1] != 0) return differs("list_starts[0, 1]", index.list_starts[1], 0);
  if (index.list_starts[2 * index.num_lists] != index.num_entries) {
    return differs("the end of the lists' entries", index.list_starts[2 * index.num_lists], index.num_entries);
  }
  if (index.list_starts[2 * index.num_lists + 1] != index.num_postings) {
    return differs("the end of the lists' postings", index.list_starts[2 * index.num_lists + 1], index.num_postings);
  }
  return "";
}

}  // namespace dpsr
