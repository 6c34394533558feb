// The pre-tokenizers of `tokenizers`, one after the other: normalized text -> words.

#ifndef DPSR_TOKENIZER_CC_CORE_SUBWORDS_PRE_TOKENIZER_H_
#define DPSR_TOKENIZER_CC_CORE_SUBWORDS_PRE_TOKENIZER_H_

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "tokenizer_cc/core/buffer.h"
#include "tokenizer_cc/core/subwords/model_file.h"

namespace dpsr {

// Immutable, and a view of its model.
class PreTokenizer {
 public:
  using Words = Buffer<std::string_view>;

  // Working memory that Cut reuses.
  struct Workspace {
    Words words[2];
    Buffer<uint8_t> texts[2];
  };

  PreTokenizer() = default;
  explicit PreTokenizer(const SubwordSections& model);

  // Cuts well-formed UTF-8 into words that are not empty. They are views of the text or of the workspace, and good
  // until its next use.
  const Words& Cut(std::string_view text, Workspace* workspace) const;

 private:
  // A step that cuts by the class of each code point.
  enum Class : uint8_t { kRemoved, kIsolated, kFirstRun };
  using Classes = std::array<uint8_t, 128>;
  struct Cutter {
    Step step;
    Classes by_flags;  // by the low flags of hf_unicode.h
    Classes ascii;
    std::string_view space;  // Metaspace
  };

  static Cutter MakeCutter(const Step& step, std::string_view space);
  static void CutByClass(const Cutter& cutter, std::string_view text, Words* words);
  static void MarkSpaces(const Cutter& cutter, const Words& from, Words* words, Buffer<uint8_t>* texts);

  std::vector<Cutter> cutters_;
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_SUBWORDS_PRE_TOKENIZER_H_
