#include "tokenizer_cc/core/text/normalizer.h"

#include <algorithm>
#include <cstring>

#include "tokenizer_cc/core/text/unicode_tables.h"
#include "tokenizer_cc/core/text/utf8.h"

namespace dpsr {
namespace {

// Hangul syllables are composed by arithmetic (The Unicode Standard, section 3.12).
constexpr uint32_t kSyllables = 0xAC00, kLeads = 0x1100, kVowels = 0x1161, kTails = 0x11A7;
constexpr uint32_t kLeadCount = 19, kVowelCount = 21, kTailCount = 28;
constexpr uint32_t kSyllableCount = kLeadCount * kVowelCount * kTailCount;

constexpr uint64_t kHighBits = 0x8080808080808080u;

uint64_t Load64(const uint8_t* p) {
  uint64_t value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

// The first byte of [p, end) that is not ASCII, or end.
const uint8_t* AsciiEnd(const uint8_t* p, const uint8_t* end) {
  while (end - p >= 8 && (Load64(p) & kHighBits) == 0) p += 8;
  while (p != end && *p < 0x80) ++p;
  return p;
}

// ASCII lower case; plain arithmetic, so that compilers vectorize it.
void AppendLower(const uint8_t* p, const uint8_t* end, Buffer<uint8_t>* out) {
  const auto size = static_cast<size_t>(end - p);
  out->Reserve(size);
  uint8_t* target = out->end();
  for (size_t i = 0; i < size; ++i) {
    const uint8_t is_upper = static_cast<uint8_t>(p[i] - 'A') < 26;
    target[i] = static_cast<uint8_t>(p[i] + (is_upper << 5));
  }
  out->Advance(size);
}

void AppendCodePoint(uint32_t code_point, Buffer<uint8_t>* out) {
  out->Reserve(4);
  out->Advance(EncodeUtf8(code_point, out->end()));
}

// The folding of a code point that nothing joins.
void AppendFolded(uint32_t code_point, uint16_t fold, Buffer<uint8_t>* out) {
  if (fold == unicode::kSelf) return AppendCodePoint(code_point, out);
  const auto string = unicode::FoldString(fold);
  out->Append(string.data, string.size);
}

}  // namespace

void Normalizer::Normalize(std::string_view text, Buffer<uint8_t>* out) {
  const auto* p = reinterpret_cast<const uint8_t*>(text.data());
  const uint8_t* const end = p + text.size();
  while (p != end) {
    const uint8_t* ascii_end = AsciiEnd(p, end);
    if (ascii_end == end) return AppendLower(p, end, out);
    // The last ASCII character before another one may be the base of a combining mark, and is normalized with it.
    if (ascii_end - p > 1) {
      AppendLower(p, ascii_end - 1, out);
      p = ascii_end - 1;
    }
    Decoded current = DecodeReplacing(p, end);
    uint16_t fold = unicode::Fold(current.code_point);
    // One code point ahead: nothing joins `current` if the next one does not.
    while (true) {
      p += current.bytes;
      const bool at_end = p == end;
      Decoded next{};
      uint16_t next_fold = unicode::kSelf;
      if (!at_end) {
        next = DecodeReplacing(p, end);
        next_fold = unicode::Fold(next.code_point);
      }
      if (fold != unicode::kJoins && next_fold != unicode::kJoins) {
        AppendFolded(current.code_point, fold, out);
      } else {
        cluster_.assign(1, current.code_point);
        while (p != end && next_fold == unicode::kJoins) {
          cluster_.push_back(next.code_point);
          p += next.bytes;
          if (p == end) break;
          next = DecodeReplacing(p, end);
          next_fold = unicode::Fold(next.code_point);
        }
        NormalizeCluster(out);
      }
      if (p == end) return;
      if (next.code_point < 0x80 && (end - p < 2 || p[1] < 0x80)) break;  // back to whole runs of ASCII
      current = next;
      fold = next_fold;
    }
  }
}

void Normalizer::NormalizeCluster(Buffer<uint8_t>* out) {
  decomposed_.clear();
  for (const uint32_t code_point : cluster_) Decompose(code_point);
  Reorder();
  Compose();
  for (const uint32_t code_point : decomposed_) {
    const auto folded = unicode::Casefold(code_point);
    if (folded.size == 0) AppendCodePoint(code_point, out);
    for (size_t i = 0; i < folded.size; ++i) AppendCodePoint(folded.data[i], out);
  }
}

void Normalizer::Decompose(uint32_t code_point) {
  const uint32_t syllable = code_point - kSyllables;
  if (syllable < kSyllableCount) {
    decomposed_.push_back(kLeads + syllable / (kVowelCount * kTailCount));
    decomposed_.push_back(kVowels + syllable / kTailCount % kVowelCount);
    if (syllable % kTailCount != 0) decomposed_.push_back(kTails + syllable % kTailCount);
    return;
  }
  const auto parts = unicode::Decomposition(code_point);
  if (parts.size == 0) decomposed_.push_back(code_point);
  decomposed_.insert(decomposed_.end(), parts.data, parts.data + parts.size);
}

// Canonical ordering: sorts every run of marks by combining class, stably.
void Normalizer::Reorder() {
  const auto before = [](uint32_t a, uint32_t b) { return unicode::CombiningClass(a) < unicode::CombiningClass(b); };
  const auto is_mark = [](uint32_t code_point) { return unicode::CombiningClass(code_point) != 0; };
  auto run = decomposed_.begin();
  while ((run = std::find_if(run, decomposed_.end(), is_mark)) != decomposed_.end()) {
    const auto run_end = std::find_if_not(run, decomposed_.end(), is_mark);
    if (!std::is_sorted(run, run_end, before)) std::stable_sort(run, run_end, before);
    run = run_end;
  }
}

// Canonical composition, in place: each starter takes every later mark that is not blocked and that it composes with.
void Normalizer::Compose() {
  constexpr size_t kNone = SIZE_MAX;
  size_t starter = kNone;
  size_t size = 0;
  int last_class = -1;  // the combining class of what was kept last after the starter; -1 right behind the starter
  for (const uint32_t code_point : decomposed_) {
    const int combining = unicode::CombiningClass(code_point);
    if (starter != kNone && last_class < combining) {
      uint32_t& base = decomposed_[starter];
      const uint32_t vowel = code_point - kVowels, tail = code_point - kTails, syllable = base - kSyllables;
      uint32_t composed = 0;
      if (base - kLeads < kLeadCount && vowel < kVowelCount) {
        composed = kSyllables + ((base - kLeads) * kVowelCount + vowel) * kTailCount;
      } else if (syllable < kSyllableCount && syllable % kTailCount == 0 && tail - 1 < kTailCount - 1) {
        composed = base + tail;
      } else {
        composed = unicode::Compose(base, code_point);
      }
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
    decomposed_[size++] = code_point;
  }
  decomposed_.resize(size);
}

}  // namespace dpsr
