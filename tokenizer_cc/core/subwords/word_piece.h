// WordPiece: the longest piece first.

#ifndef DPSR_TOKENIZER_CC_CORE_SUBWORDS_WORD_PIECE_H_
#define DPSR_TOKENIZER_CC_CORE_SUBWORDS_WORD_PIECE_H_

#include <string_view>

#include "tokenizer_cc/core/buffer.h"
#include "tokenizer_cc/core/subwords/model_file.h"
#include "tokenizer_cc/core/text/utf8.h"

namespace dpsr {

class WordPiece {
 public:
  WordPiece() = default;
  explicit WordPiece(const SubwordSections& model)
      : pieces_(model.trie(kPieces)),
        inside_(pieces_.Walk(model.text(kPrefix))),
        has_inside_(inside_ != 0 || model.text(kPrefix).empty()),
        most_characters_(model.header().max_word_characters),
        unknown_(model.header().roles[kUnk]) {}

  // Appends the pieces of a word of well-formed UTF-8, or the unknown id where it cannot be made of pieces.
  void Encode(std::string_view word, Buffer<int32_t>* ids) const {
    const size_t before = ids->size();
    ids->Reserve(word.size());
    if (!EncodeKnown(word, ids)) {
      ids->Truncate(before);
      ids->Append(&unknown_, 1);
    }
  }

 private:
  bool EncodeKnown(std::string_view word, Buffer<int32_t>* ids) const {
    if (word.size() > most_characters_ && CountCodePoints(word) > most_characters_) return false;
    const auto* p = reinterpret_cast<const uint8_t*>(word.data());
    const uint8_t* const end = p + word.size();
    uint32_t state = 0;
    while (p != end) {
      int32_t longest = -1;
      const uint8_t* longest_end = p;
      for (const uint8_t* q = p; q != end;) {
        state = pieces_.Child(state, *q++);
        if (state == 0) break;
        if (pieces_.value(state) >= 0) {
          longest = pieces_.value(state);
          longest_end = q;
        }
      }
      if (longest < 0) return false;
      *ids->end() = longest;
      ids->Advance(1);
      p = longest_end;
      if (p != end && !has_inside_) return false;
      state = inside_;
    }
    return true;
  }

  Trie pieces_;
  uint32_t inside_ = 0;  // behind the prefix of pieces inside a word
  bool has_inside_ = false;
  size_t most_characters_ = 0;
  int32_t unknown_ = 0;
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_SUBWORDS_WORD_PIECE_H_
