// Text -> the terms of lexical search.

#ifndef DPSR_TOKENIZER_CC_CORE_TERMS_ANALYZER_H_
#define DPSR_TOKENIZER_CC_CORE_TERMS_ANALYZER_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "tokenizer_cc/core/text/segmenter.h"

namespace dpsr {

// One term of a text: a run of letters or a number of one of its words, without the s of a plural.
struct Term {
  size_t begin;
  size_t length : 61;   // bytes
  size_t letters : 1;   // nothing but letters
  size_t stemmed : 1;   // an s was removed, and stands behind the term
  size_t new_word : 1;  // the first term of its word
};

// The bytes of a word without its plural s: "sinks" loses it, "glass", "bus" and words of up to three characters do
// not.
size_t LightStem(const uint8_t* bytes, size_t length);

// Whether a term is a run of letters, and of how many characters; 0 if not.
size_t CountLetters(std::string_view term);

// Cuts each word of the Segmenter into runs by the regular expression
//
//     \d+(?:[./]\d+)*|[^\W\d]+
//
// of Python's `re`: "xbox360" gives "xbox" and "360", "1.5ah" gives "1.5" and "ah"; marks that compose with no letter
// part runs and are dropped. A word without a run, a pictograph, stays whole. LightStem ends each term.
//
// The terms are valid until the next call. Linear in the text. A TermAnalyzer keeps its working memory between calls;
// it is not for two threads at once.
class TermAnalyzer {
 public:
  void Analyze(std::string_view text);

  const std::vector<Term>& terms() const { return terms_; }
  // Segmenter::kPadding bytes are readable behind every term.
  const uint8_t* bytes(const Term& term) const { return segmenter_.bytes({term.begin, 0, 0, 0}); }
  std::string_view view(const Term& term) const { return {reinterpret_cast<const char*>(bytes(term)), term.length}; }
  // The term with the plural s that the text has.
  std::string_view unstemmed(const Term& term) const { return {view(term).data(), term.length + term.stemmed}; }

 private:
  void SplitAscii(const Word& word);
  void SplitUnicode(const Word& word);
  void Add(size_t begin, size_t end, bool letters, bool new_word);

  Segmenter segmenter_;
  std::vector<Term> terms_;
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_TERMS_ANALYZER_H_
