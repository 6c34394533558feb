// The letter trigrams of a word.

#ifndef DPSR_TOKENIZER_CC_CORE_BAGS_TRIGRAMS_H_
#define DPSR_TOKENIZER_CC_CORE_BAGS_TRIGRAMS_H_

#include <cstddef>
#include <cstdint>

#include "tokenizer_cc/core/text/utf8.h"

namespace dpsr {

// Calls visit(a, b, c) for every three neighbours in "#word#": as many as the word has code points.
template <class Visit>
void ForEachTrigram(const uint8_t* word, size_t length, Visit&& visit) {
  const uint8_t* const end = word + length;
  uint32_t a = '#';
  Decoded decoded = DecodeValid(word);
  uint32_t b = decoded.code_point;
  for (const uint8_t* p = word + decoded.bytes; p < end; p += decoded.bytes) {
    decoded = DecodeValid(p);
    visit(a, b, decoded.code_point);
    a = b;
    b = decoded.code_point;
  }
  visit(a, b, uint32_t{'#'});
}

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_BAGS_TRIGRAMS_H_
