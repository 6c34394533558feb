// Text -> what stands for a query wherever equal queries are counted together.

#ifndef DPSR_TOKENIZER_CC_CORE_TERMS_QUERY_KEY_H_
#define DPSR_TOKENIZER_CC_CORE_TERMS_QUERY_KEY_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "tokenizer_cc/core/terms/analyzer.h"

namespace dpsr {

// Hashes the terms of a query, in their order and without the spaces between them: "Black-Ops 2", "blackops2" and
// "black op 2" are one query. Numbers stay apart: "5 10" is not "510".
//
// Keeps its working memory between calls; not for two threads at once.
class QueryKeyer {
 public:
  static constexpr uint64_t kNoKey = 0;

  // kNoKey for a text without a term. Linear in the text.
  uint64_t Key(std::string_view query);

 private:
  TermAnalyzer analyzer_;
  std::string joined_;
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_TERMS_QUERY_KEY_H_
