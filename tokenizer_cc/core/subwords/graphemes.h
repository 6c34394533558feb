// Extended grapheme clusters: what a reader takes for one character (Unicode Standard Annex 29).

#ifndef DPSR_TOKENIZER_CC_CORE_SUBWORDS_GRAPHEMES_H_
#define DPSR_TOKENIZER_CC_CORE_SUBWORDS_GRAPHEMES_H_

#include <cstdint>

namespace dpsr {

// The end of the cluster that begins at `p`, a place of well-formed UTF-8 [p, end) that is not empty. Regional
// indicators are not put together (hf_unicode.h says why).
const uint8_t* ClusterEnd(const uint8_t* p, const uint8_t* end);

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_SUBWORDS_GRAPHEMES_H_
