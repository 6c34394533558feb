// The normalizers of `tokenizers`, one after the other.

#ifndef DPSR_TOKENIZER_CC_CORE_SUBWORDS_NORMALIZER_H_
#define DPSR_TOKENIZER_CC_CORE_SUBWORDS_NORMALIZER_H_

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "tokenizer_cc/core/buffer.h"
#include "tokenizer_cc/core/subwords/model_file.h"
#include "tokenizer_cc/core/subwords/precompiled.h"
#include "tokenizer_cc/core/text/canonical.h"
#include "tokenizer_cc/core/text/hf_unicode.h"

namespace dpsr {

// Immutable, and a view of its model.
class SubwordNormalizer {
 public:
  // Working memory that Normalize reuses.
  struct Workspace {
    Buffer<uint8_t> texts[2];
    std::vector<uint32_t> marks;
    Canonical<hf::Forms<false>> canonical;
    Canonical<hf::Forms<true>> compatibility;
  };

  SubwordNormalizer() = default;
  explicit SubwordNormalizer(const SubwordSections& model);

  // Normalizes well-formed UTF-8. The result is the text itself, or in the workspace and good until its next use.
  std::string_view Normalize(std::string_view text, Workspace* workspace) const;

 private:
  struct Normalizer {
    Step step;
    std::string_view first, second;
    std::array<uint8_t, 128> bert_ascii;
    Precompiled charsmap;
  };

  static void Apply(const Normalizer& normalizer, std::string_view text, Workspace* workspace, Buffer<uint8_t>* out);

  std::vector<Normalizer> normalizers_;
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_SUBWORDS_NORMALIZER_H_
