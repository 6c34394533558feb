// What the core knows of Unicode, looked up by code point in constant time.

#ifndef DPSR_TOKENIZER_CC_CORE_TEXT_UNICODE_TABLES_H_
#define DPSR_TOKENIZER_CC_CORE_TEXT_UNICODE_TABLES_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>

namespace dpsr::unicode {

namespace tables {
#include "unicode_tables.inc"
}  // namespace tables

// The version of Unicode, as in "14.0.0".
inline constexpr const char* kVersion = tables::kUnicodeVersion;

// A string of one of the pools.
template <class T>
struct Span {
  const T* data;
  size_t size;
};

// The segmenter's class of a code point; every value from kLatin on is a script.
enum SegmentClass : uint8_t {
  kSeparator = 0,
  kIgnored = 1,
  kMark = 2,
  kDigit = 3,
  kUnit = 4,
  kCommonLetter = 5,
  kLatin = 6,
};

// What Fold returns: kSelf, kJoins, or the number of the code point's NFKC + casefold string.
inline constexpr uint16_t kSelf = 0;
// NFKC may join the code point with what stands before it, so that it cannot be folded alone.
inline constexpr uint16_t kJoins = 0xFFFF;

template <class T, size_t kBlocks, size_t kValues>
inline T Lookup(const uint16_t (&stage1)[kBlocks], const T (&stage2)[kValues], uint32_t code_point) {
  return stage2[static_cast<size_t>(stage1[code_point >> 7]) * 128 + (code_point & 127)];
}

template <class T, size_t kValues, size_t kStrings>
inline Span<T> PoolString(const T (&pool)[kValues], const uint32_t (&begin)[kStrings], uint16_t number) {
  return {pool + begin[number], begin[number + 1] - begin[number]};
}

inline uint16_t Fold(uint32_t code_point) { return Lookup(tables::kFoldStage1, tables::kFoldStage2, code_point); }

inline Span<uint8_t> FoldString(uint16_t number) { return PoolString(tables::kFoldPool, tables::kFoldBegin, number); }

// The full compatibility decomposition; empty for "itself", and for Hangul syllables.
inline Span<uint32_t> Decomposition(uint32_t code_point) {
  return PoolString(tables::kDecompositionPool, tables::kDecompositionBegin,
                    Lookup(tables::kDecompositionStage1, tables::kDecompositionStage2, code_point));
}

// The full case folding; empty for "itself".
inline Span<uint32_t> Casefold(uint32_t code_point) {
  return PoolString(tables::kCasefoldPool, tables::kCasefoldBegin,
                    Lookup(tables::kCasefoldStage1, tables::kCasefoldStage2, code_point));
}

inline uint8_t CombiningClass(uint32_t code_point) {
  return Lookup(tables::kCombiningClassStage1, tables::kCombiningClassStage2, code_point);
}

inline uint8_t SegmentClassOf(uint32_t code_point) {
  return Lookup(tables::kSegmentClassStage1, tables::kSegmentClassStage2, code_point);
}

// The composition that a sorted table has for a pair; 0 where it has none.
template <size_t kPairs>
inline uint32_t ComposePair(const uint64_t (&pairs)[kPairs], const uint32_t (&composed)[kPairs], uint32_t first,
                            uint32_t second) {
  const uint64_t pair = static_cast<uint64_t>(first) << 21 | second;
  const uint64_t* found = std::lower_bound(std::begin(pairs), std::end(pairs), pair);
  return found != std::end(pairs) && *found == pair ? composed[found - std::begin(pairs)] : 0;
}

// The canonical composition of a pair, Hangul apart; 0 where there is none.
inline uint32_t Compose(uint32_t first, uint32_t second) {
  return ComposePair(tables::kCompositionPair, tables::kComposition, first, second);
}

// Data of NFKC; see canonical.h.
struct Nfkc {
  static Span<uint32_t> Decomposition(uint32_t code_point) { return unicode::Decomposition(code_point); }
  static uint8_t CombiningClass(uint32_t code_point) { return unicode::CombiningClass(code_point); }
  static uint32_t Compose(uint32_t first, uint32_t second) { return unicode::Compose(first, second); }
};

}  // namespace dpsr::unicode

#endif  // DPSR_TOKENIZER_CC_CORE_TEXT_UNICODE_TABLES_H_
