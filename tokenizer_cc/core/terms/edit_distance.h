// How many slips of the finger lie between two words.

#ifndef DPSR_TOKENIZER_CC_CORE_TERMS_EDIT_DISTANCE_H_
#define DPSR_TOKENIZER_CC_CORE_TERMS_EDIT_DISTANCE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace dpsr {

// Restricted Damerau-Levenshtein distance (optimal string alignment) of code points: insertions, deletions,
// replacements, and swaps of neighbours that are not edited again. `most` + 1 where it is larger than `most`.
// n <= kLongestEdited.
inline constexpr size_t kLongestEdited = 40;
inline size_t EditDistance(const uint32_t* a, size_t m, const uint32_t* b, size_t n, size_t most) {
  if (std::max(m, n) - std::min(m, n) > most) return most + 1;
  size_t rows[3][kLongestEdited + 1];
  size_t *before = rows[0], *above = rows[1], *row = rows[2];
  for (size_t j = 0; j <= n; ++j) above[j] = j;
  for (size_t i = 1; i <= m; ++i) {
    row[0] = i;
    size_t least = i;
    for (size_t j = 1; j <= n; ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
      least = std::min(least, row[j]);
    }
    if (least > most) return most + 1;
    size_t* const oldest = before;
    before = above;
    above = row;
    row = oldest;
  }
  return std::min(above[n], most + 1);
}

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_TERMS_EDIT_DISTANCE_H_
