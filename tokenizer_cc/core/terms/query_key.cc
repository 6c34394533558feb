#include "tokenizer_cc/core/terms/query_key.h"

#include <string_view>

#include "tokenizer_cc/core/hashing.h"

namespace dpsr {
namespace {

// As LightStem, of terms of three characters too: where "ops" stands alone it is what it is in "blackops".
std::string_view WithoutPlural(std::string_view term) {
  const size_t length = term.size();
  if (length < 3 || term[length - 1] != 's' || term[length - 2] == 's' || term[length - 2] == 'u') return term;
  return term.substr(0, length - 1);
}

}  // namespace

uint64_t QueryKeyer::Key(std::string_view query) {
  analyzer_.Analyze(query);
  joined_.clear();
  bool after_number = false;
  for (const Term& term : analyzer_.terms()) {
    if (after_number && !term.letters) joined_ += ' ';
    joined_ += term.stemmed ? analyzer_.view(term) : WithoutPlural(analyzer_.view(term));
    after_number = !term.letters;
  }
  if (joined_.empty()) return kNoKey;
  const size_t length = joined_.size();
  joined_.append(Segmenter::kPadding, '\0');
  return HashWord(reinterpret_cast<const uint8_t*>(joined_.data()), length);
}

}  // namespace dpsr
