// Decomposition, canonical ordering and canonical composition (The Unicode Standard, section 3.11), over any tables.

#ifndef DPSR_TOKENIZER_CC_CORE_TEXT_CANONICAL_H_
#define DPSR_TOKENIZER_CC_CORE_TEXT_CANONICAL_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dpsr {

// Hangul syllables are composed by arithmetic (The Unicode Standard, section 3.12).
namespace hangul {
inline constexpr uint32_t kSyllables = 0xAC00, kLeads = 0x1100, kVowels = 0x1161, kTails = 0x11A7;
inline constexpr uint32_t kLeadCount = 19, kVowelCount = 21, kTailCount = 28;
inline constexpr uint32_t kSyllableCount = kLeadCount * kVowelCount * kTailCount;

// The composition of a pair, 0 where there is none.
inline uint32_t Compose(uint32_t first, uint32_t second) {
  const uint32_t vowel = second - kVowels, tail = second - kTails, syllable = first - kSyllables;
  if (first - kLeads < kLeadCount && vowel < kVowelCount) {
    return kSyllables + ((first - kLeads) * kVowelCount + vowel) * kTailCount;
  }
  return syllable < kSyllableCount && syllable % kTailCount == 0 && tail - 1 < kTailCount - 1 ? first + tail : 0;
}

// Calls `take` with the jamo of a syllable, or returns false.
template <class Take>
bool Decompose(uint32_t code_point, Take take) {
  const uint32_t syllable = code_point - kSyllables;
  if (syllable >= kSyllableCount) return false;
  take(kLeads + syllable / (kVowelCount * kTailCount));
  take(kVowels + syllable / kTailCount % kVowelCount);
  if (syllable % kTailCount != 0) take(kTails + syllable % kTailCount);
  return true;
}
}  // namespace hangul

// Brings code points into a normalization form. `Data` has, static: Decomposition (empty for "itself" and for Hangul
// syllables), CombiningClass, and Compose (0 for none, Hangul apart).
template <class Data>
class Canonical {
 public:
  void Clear() { code_points_.clear(); }
  const std::vector<uint32_t>& code_points() const { return code_points_; }
  bool empty() const { return code_points_.empty(); }

  // Appends the full decomposition of a code point.
  void Decompose(uint32_t code_point) {
    const auto append = [this](uint32_t part) { code_points_.push_back(part); };
    if (hangul::Decompose(code_point, append)) return;
    const auto parts = Data::Decomposition(code_point);
    if (parts.size == 0) code_points_.push_back(code_point);
    code_points_.insert(code_points_.end(), parts.data, parts.data + parts.size);
  }

  // Canonical ordering: sorts every run of marks by combining class, stably.
  void Reorder() {
    const auto before = [](uint32_t a, uint32_t b) { return Data::CombiningClass(a) < Data::CombiningClass(b); };
    const auto is_mark = [](uint32_t code_point) { return Data::CombiningClass(code_point) != 0; };
    auto run = code_points_.begin();
    while ((run = std::find_if(run, code_points_.end(), is_mark)) != code_points_.end()) {
      const auto run_end = std::find_if_not(run, code_points_.end(), is_mark);
      if (!std::is_sorted(run, run_end, before)) std::stable_sort(run, run_end, before);
      run = run_end;
    }
  }

  // Canonical composition: each starter takes every later mark that is not blocked and that it composes with.
  void Compose() {
    constexpr size_t kNone = SIZE_MAX;
    size_t starter = kNone;
    size_t size = 0;
    int last_class = -1;  // the combining class of what was kept last after the starter; -1 right behind the starter
    for (const uint32_t code_point : code_points_) {
      const int combining = Data::CombiningClass(code_point);
      if (starter != kNone && last_class < combining) {
        uint32_t& base = code_points_[starter];
        uint32_t composed = hangul::Compose(base, code_point);
        if (composed == 0) composed = Data::Compose(base, code_point);
        if (composed != 0) {
          base = composed;
          continue;
        }
      }
      if (combining == 0) {
        starter = size;
        last_class = -1;
      } else {
        last_class = combining;
      }
      code_points_[size++] = code_point;
    }
    code_points_.resize(size);
  }

 private:
  std::vector<uint32_t> code_points_;
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_TEXT_CANONICAL_H_
