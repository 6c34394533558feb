#include "tokenizer_cc/core/terms/query_key.h"

#include "tokenizer_cc/core/hashing.h"

namespace dpsr {

uint64_t QueryKeyer::Key(std::string_view query) {
  analyzer_.Analyze(query);
  joined_.clear();
  bool after_number = false;
  for (const Term& term : analyzer_.terms()) {
    if (after_number && !term.letters) joined_ += ' ';
    joined_ += analyzer_.view(term);
    after_number = !term.letters;
  }
  if (joined_.empty()) return kNoKey;
  const size_t length = joined_.size();
  joined_.append(Segmenter::kPadding, '\0');
  return HashWord(reinterpret_cast<const uint8_t*>(joined_.data()), length);
}

}  // namespace dpsr
