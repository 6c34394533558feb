// Text -> casefold(NFKC(text)).

#ifndef DPSR_TOKENIZER_CC_CORE_TEXT_NORMALIZER_H_
#define DPSR_TOKENIZER_CC_CORE_TEXT_NORMALIZER_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "tokenizer_cc/core/buffer.h"
#include "tokenizer_cc/core/text/canonical.h"
#include "tokenizer_cc/core/text/unicode_tables.h"

namespace dpsr {

// For all bytes `text`, what Normalize appends is, byte for byte, what Python gives for
//
//     unicodedata.normalize("NFKC", text.decode("utf-8", errors="replace")).casefold().encode()
//
// under the Unicode version of unicode_tables.h. Linear in the text, except that a cluster of combining marks is
// sorted. A Normalizer keeps its working memory between calls; it is not for two threads at once.
class Normalizer {
 public:
  void Normalize(std::string_view text, Buffer<uint8_t>* out);

 private:
  // Normalizes code points that cannot be looked at one by one: a starter and what may join it.
  void NormalizeCluster(Buffer<uint8_t>* out);

  std::vector<uint32_t> cluster_;
  Canonical<unicode::Nfkc> canonical_;
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_TEXT_NORMALIZER_H_
