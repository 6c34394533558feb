// Texts -> the model of their commonest tokens.

#ifndef DPSR_TOKENIZER_CC_CORE_VOCABULARY_BUILDER_H_
#define DPSR_TOKENIZER_CC_CORE_VOCABULARY_BUILDER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer_cc/core/model_file.h"

namespace dpsr {

// Counts in how many texts each token is, and keeps the commonest. The result depends on the set of texts alone:
// neither on their order nor on how they were split into calls and threads. Add and Build are not for two threads at
// once.
class VocabularyBuilder {
 public:
  // `config` must have no Problem(); `threads` is at least 1.
  VocabularyBuilder(const TokenizerConfig& config, size_t threads);
  ~VocabularyBuilder();

  void Add(const std::vector<std::string_view>& texts);
  // The model of all texts so far. Returns what went wrong; empty if nothing.
  std::string Build(ModelBytes* model) const;

  uint64_t num_documents() const { return num_documents_; }

 private:
  class Counter;

  TokenizerConfig config_;
  uint64_t num_documents_ = 0;
  std::vector<std::unique_ptr<Counter>> counters_;  // one for each thread
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_VOCABULARY_BUILDER_H_
