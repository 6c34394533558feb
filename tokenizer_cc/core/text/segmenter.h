// Normalized text -> the words that tokens are made of.

#ifndef DPSR_TOKENIZER_CC_CORE_TEXT_SEGMENTER_H_
#define DPSR_TOKENIZER_CC_CORE_TEXT_SEGMENTER_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "tokenizer_cc/core/buffer.h"
#include "tokenizer_cc/core/text/normalizer.h"

namespace dpsr {

// One word of the text.
struct Word {
  size_t begin;
  size_t length : 62;  // bytes
  size_t latin : 1;    // has a Latin letter
  size_t ascii : 1;    // has nothing but ASCII
};

// Cuts text into words; the rules and examples are in docs/tokenizer.md:
//
//   - a word is a run of letters of one script, digits (which go with every script) and the marks on them;
//   - a `.` or `/` between two digits is inside a word; a fraction slash (as in a decomposed 1/2 sign) counts as `/`;
//   - an ideograph, a kana or a pictograph is a word by itself, with its marks;
//   - format characters, variation selectors and skin tones are dropped: they neither belong to a word nor end one;
//   - everything else separates.
//
// The words are valid until the next call. A Segmenter keeps its working memory between calls; it is not for two
// threads at once.
class Segmenter {
 public:
  // Readable bytes behind every word, so that words can be read in whole machine words.
  static constexpr size_t kPadding = 8;

  void Segment(std::string_view text);

  const std::vector<Word>& words() const { return words_; }
  const uint8_t* bytes(const Word& word) const { return text_.data() + word.begin; }
  std::string_view view(const Word& word) const { return {reinterpret_cast<const char*>(bytes(word)), word.length}; }
  // An upper bound of the bytes, hence of the code points, of all words together.
  size_t text_bytes() const { return text_.size(); }

 private:
  // Takes the words of ASCII text from `p` on; stops at what is not ASCII, before the word it would be in.
  const uint8_t* SegmentAscii(const uint8_t* p);
  void SegmentUnicode(const uint8_t* p);

  Normalizer normalizer_;
  Buffer<uint8_t> text_;
  std::vector<Word> words_;
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_TEXT_SEGMENTER_H_
