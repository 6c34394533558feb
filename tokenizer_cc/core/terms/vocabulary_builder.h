// Texts of a catalogue -> the model of their terms.

#ifndef DPSR_TOKENIZER_CC_CORE_TERMS_VOCABULARY_BUILDER_H_
#define DPSR_TOKENIZER_CC_CORE_TERMS_VOCABULARY_BUILDER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer_cc/core/model_bytes.h"
#include "tokenizer_cc/core/terms/analyzer.h"
#include "tokenizer_cc/core/terms/term_counts.h"
#include "tokenizer_cc/core/terms/term_tokenizer.h"

namespace dpsr {

struct TermConfig {
  bool bigrams = false;           // whether neighbouring words make terms
  uint32_t min_count = 1;         // fewest documents with a word
  uint32_t min_bigram_count = 2;  // fewest documents with a bigram
};

// Counts the document frequency of every term. The model depends on the multiset of texts alone. A bigram's words are
// in the vocabulary too. Counting is exact; distinct words take some 50 bytes each, bigrams 24 to 48. Not for two
// threads at once.
class TermVocabularyBuilder {
 public:
  explicit TermVocabularyBuilder(const TermConfig& config) : config_(config) {}

  // Documents of several texts each: text i of every field is one of document i. Neighbours in one text make bigrams.
  void Add(const std::vector<std::vector<std::string_view>>& fields);
  // `num_documents` more, of which counts[id] have the term of a model; not with bigrams, which a model has not all of.
  void Add(const TermTokenizer& tokenizer, const int32_t* counts, uint64_t num_documents);
  // The model of all texts so far. Returns what went wrong; empty if nothing.
  std::string Build(ModelBytes* model) const;

  uint64_t num_documents() const { return num_documents_; }
  bool bigrams() const { return config_.bigrams; }

 private:
  void Count(std::string_view text, uint32_t document);

  TermConfig config_;
  TermAnalyzer analyzer_;
  WordCounts words_;
  PairCounts pairs_;  // by numbers of words
  uint64_t num_documents_ = 0;
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_TERMS_VOCABULARY_BUILDER_H_
