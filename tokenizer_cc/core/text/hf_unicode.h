// Unicode as Hugging Face `tokenizers` sees it, looked up by code point in constant time.

#ifndef DPSR_TOKENIZER_CC_CORE_TEXT_HF_UNICODE_H_
#define DPSR_TOKENIZER_CC_CORE_TEXT_HF_UNICODE_H_

#include <cstdint>

#include "tokenizer_cc/core/text/unicode_tables.h"

namespace dpsr::hf {

namespace tables {
#include "hf_unicode_tables.inc"
}  // namespace tables

// The version of the library whose answers the tables hold.
inline constexpr const char* kVersion = tables::kLibraryVersion;

enum Flag : uint16_t {
  kWhiteSpace = 1 << 0,
  kPunctuation = 1 << 1,
  kWord = 1 << 2,        // what the regular expression \w matches
  kNumeric = 1 << 3,     // what Digits parts from the rest
  kControl = 1 << 4,     // what BERT's clean_text drops
  kNonspacing = 1 << 5,  // what BERT's strip_accents drops
  kCombining = 1 << 6,   // what StripAccents drops
};

// The class of grapheme cluster boundaries (UAX 29). Regional indicators need none: two of them are 8 bytes, and
// Precompiled looks at longer clusters than 5 bytes one code point at a time.
enum class Boundary : uint8_t {
  kOther,
  kCarriageReturn,
  kLineFeed,
  kControl,
  kExtend,
  kJoiner,
  kSpacingMark,
  kPrepend,
  kLead,
  kVowel,
  kTail,
  kLeadVowel,
  kLeadVowelTail,
  kPictographic,
};
// The class of Indic conjuncts.
enum class Conjunct : uint8_t { kNone, kConsonant, kExtend, kLinker };

inline uint16_t Flags(uint32_t code_point) {
  return unicode::Lookup(tables::kFlagsStage1, tables::kFlagsStage2, code_point);
}

inline Boundary BoundaryOf(uint16_t flags) { return static_cast<Boundary>(flags >> 8 & 15); }
inline Conjunct ConjunctOf(uint16_t flags) { return static_cast<Conjunct>(flags >> 12 & 3); }

// The lower case; empty for "itself".
inline unicode::Span<uint32_t> Lower(uint32_t code_point) {
  return unicode::PoolString(tables::kLowerPool, tables::kLowerBegin,
                             unicode::Lookup(tables::kLowerStage1, tables::kLowerStage2, code_point));
}

// Data of the normalization forms; see canonical.h.
template <bool kCompatibility>
struct Forms {
  static unicode::Span<uint32_t> Decomposition(uint32_t code_point) {
    if constexpr (kCompatibility) {
      return unicode::PoolString(
          tables::kCompatibilityPool, tables::kCompatibilityBegin,
          unicode::Lookup(tables::kCompatibilityStage1, tables::kCompatibilityStage2, code_point));
    } else {
      return unicode::PoolString(tables::kCanonicalPool, tables::kCanonicalBegin,
                                 unicode::Lookup(tables::kCanonicalStage1, tables::kCanonicalStage2, code_point));
    }
  }

  static uint8_t CombiningClass(uint32_t code_point) {
    return unicode::Lookup(tables::kCombiningClassStage1, tables::kCombiningClassStage2, code_point);
  }

  static uint32_t Compose(uint32_t first, uint32_t second) {
    return unicode::ComposePair(tables::kCompositionPair, tables::kComposition, first, second);
  }
};

}  // namespace dpsr::hf

#endif  // DPSR_TOKENIZER_CC_CORE_TEXT_HF_UNICODE_H_
