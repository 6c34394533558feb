// Texts -> the model of their commonest tokens.

#ifndef DPSR_TOKENIZER_CC_CORE_BAGS_VOCABULARY_BUILDER_H_
#define DPSR_TOKENIZER_CC_CORE_BAGS_VOCABULARY_BUILDER_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer_cc/core/bags/model_file.h"

namespace dpsr {

// Largest number of tokens of each kind in a vocabulary, below max_vocabulary for all kinds. The limits select the
// vocabulary only, so the model file does not hold them.
struct KindLimits {
  static constexpr uint64_t kNone = std::numeric_limits<uint64_t>::max();
  uint64_t words = kNone;
  uint64_t bigrams = kNone;  // of those whose words are in the vocabulary
  uint64_t trigrams = kNone;
};

// Counts the document frequency of every token, and keeps the most frequent ones. The result depends on the set of
// texts alone: neither on their order nor on how they were split into calls and threads. Add and Build are not for two
// threads at once.
//
// Counts are exact as long as there are no more than `max_counted_bigrams` different bigrams, which
// outnumber words and trigrams by far; a bigram takes up to 108 bytes at the peak. Beyond that the rarest are forgotten
// again (lossy counting: Manku and Motwani, 2002): the document frequency of a bigram may then be too low, by
// bigram_undercount() at the most, and it depends on the order of the texts.
class VocabularyBuilder {
 public:
  // `config` must have no Problem(); `threads` and `max_counted_bigrams` are at least 1.
  VocabularyBuilder(const TokenizerConfig& config, size_t threads, size_t max_counted_bigrams,
                    const KindLimits& limits = {});
  ~VocabularyBuilder();

  // Throws std::bad_alloc where the memory does not suffice, on whichever thread; the counts are incomplete then, and
  // the builder may only be destroyed.
  void Add(const std::vector<std::string_view>& texts);
  // The model of all texts so far. Returns what went wrong; empty if nothing.
  std::string Build(ModelBytes* model) const;

  uint64_t num_documents() const { return num_documents_; }
  // By how much the document frequency of a bigram may be too low; 0 while counting is exact.
  uint64_t bigram_undercount() const;

 private:
  class Counter;

  std::string WriteCommonest(const Counter& counter, ModelBytes* model) const;

  TokenizerConfig config_;
  KindLimits limits_;
  size_t bigrams_per_counter_;
  uint64_t num_documents_ = 0;
  std::vector<std::unique_ptr<Counter>> counters_;  // one for each thread
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_BAGS_VOCABULARY_BUILDER_H_
