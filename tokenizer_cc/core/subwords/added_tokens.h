// Tokens that are found in a text as they are written, "[SEP]" for instance.

#ifndef DPSR_TOKENIZER_CC_CORE_SUBWORDS_ADDED_TOKENS_H_
#define DPSR_TOKENIZER_CC_CORE_SUBWORDS_ADDED_TOKENS_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

#include "tokenizer_cc/core/subwords/model_file.h"

namespace dpsr {

// Immutable, and a view of its model. Matches are the leftmost, of these the longest, and do not overlap.
class AddedTokens {
 public:
  AddedTokens() = default;
  // `section`: kAddedRaw or kAddedNormalized.
  AddedTokens(const SubwordSections& model, SubwordSection section);

  bool empty() const { return trie_.empty(); }

  // Calls `between` with each stretch of well-formed UTF-8 that has no token and is not empty, and `token` with the id
  // of each token, in the order of the text.
  template <class Between, class Token>
  void Split(std::string_view text, Between between, Token token) const {
    size_t begin = 0;
    for (size_t place = 0; !empty();) {
      const Match match = Find(text, place);
      if (match.end == 0) break;
      place = match.end;
      if (!Accepts(text, match)) continue;
      size_t first = match.begin, last = match.end;
      if (match.token->flags & kStripBefore) first = std::max(begin, BeforeSpace(text, first));
      if (match.token->flags & kStripAfter) last = BehindSpace(text, last);
      if (begin < first) between(text.substr(begin, first - begin));
      token(match.token->id);
      begin = last;
    }
    if (begin < text.size()) between(text.substr(begin));
  }

 private:
  struct Match {
    const AddedToken* token;
    size_t begin, end;  // end 0: no match
  };

  // The first match that begins at `place` or later.
  Match Find(std::string_view text, size_t place) const;
  // Whether a token that has to be a word by itself is one.
  static bool Accepts(std::string_view text, const Match& match);
  static size_t BeforeSpace(std::string_view text, size_t end);
  static size_t BehindSpace(std::string_view text, size_t begin);

  Trie trie_;
  const AddedToken* tokens_ = nullptr;
  std::array<bool, 256> first_bytes_{};
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_SUBWORDS_ADDED_TOKENS_H_
