#include "tokenizer_cc/core/terms/analyzer.h"

#include <algorithm>
#include <iterator>

#include "tokenizer_cc/core/text/unicode_tables.h"
#include "tokenizer_cc/core/text/utf8.h"

namespace dpsr {
namespace {

// The zeros of category Nd that NFKC keeps, ASCII's apart; each begins ten digits.
constexpr uint32_t kDecimalZeros[] = {
    0x660,   0x6F0,   0x7C0,   0x966,   0x9E6,   0xA66,   0xAE6,   0xB66,   0xBE6,   0xC66,   0xCE6,   0xD66,
    0xDE6,   0xE50,   0xED0,   0xF20,   0x1040,  0x1090,  0x17E0,  0x1810,  0x1946,  0x19D0,  0x1A80,  0x1A90,
    0x1B50,  0x1BB0,  0x1C40,  0x1C50,  0xA620,  0xA8D0,  0xA900,  0xA9D0,  0xA9F0,  0xAA50,  0xABF0,  0x104A0,
    0x10D30, 0x11066, 0x110F0, 0x11136, 0x111D0, 0x112F0, 0x11450, 0x114D0, 0x11650, 0x116C0, 0x11730, 0x118E0,
    0x11950, 0x11C50, 0x11D50, 0x11DA0, 0x16A60, 0x16AC0, 0x16B50, 0x1E140, 0x1E2F0, 0x1E950};

struct Range {
  uint32_t first, last;
};
// Where the segmenter's units are pictographs, which are no letters (generate_unicode_tables.py).
constexpr Range kPictographBlocks[] = {{0x2300, 0x23FF}, {0x2600, 0x27BF}, {0x2B00, 0x2BFF}, {0x1F000, 0x1FAFF}};

enum class TermClass { kNone, kDecimal, kLetter };

bool IsDecimal(uint32_t code_point) {
  const uint32_t* after = std::upper_bound(std::begin(kDecimalZeros), std::end(kDecimalZeros), code_point);
  return after != std::begin(kDecimalZeros) && code_point - after[-1] < 10;
}

// \d and [^\W\d] of Python's `re`, over what words hold: every L* and N* is alphanumeric there, no M* and no So is.
TermClass ClassOf(uint32_t code_point) {
  if (code_point - '0' < 10) return TermClass::kDecimal;
  const uint8_t segment_class = unicode::SegmentClassOf(code_point);
  if (segment_class == unicode::kDigit) return IsDecimal(code_point) ? TermClass::kDecimal : TermClass::kLetter;
  if (segment_class >= unicode::kCommonLetter) return TermClass::kLetter;
  if (segment_class != unicode::kUnit) return TermClass::kNone;
  const bool pictograph = std::any_of(std::begin(kPictographBlocks), std::end(kPictographBlocks), [&](Range block) {
    return block.first <= code_point && code_point <= block.last;
  });
  return pictograph ? TermClass::kNone : TermClass::kLetter;
}

}  // namespace

size_t LightStem(const uint8_t* bytes, size_t length) {
  if (length < 4 || bytes[length - 1] != 's' || bytes[length - 2] == 's' || bytes[length - 2] == 'u') return length;
  return CountCodePoints({reinterpret_cast<const char*>(bytes), length}) > 3 ? length - 1 : length;
}

size_t CountLetters(std::string_view term) {
  const auto* p = reinterpret_cast<const uint8_t*>(term.data());
  size_t count = 0;
  for (const uint8_t* const end = p + term.size(); p < end; ++count) {
    const Decoded decoded = DecodeReplacing(p, end);
    if (ClassOf(decoded.code_point) != TermClass::kLetter) return 0;
    p += decoded.bytes;
  }
  return count;
}

void TermAnalyzer::Analyze(std::string_view text) {
  segmenter_.Segment(text);
  terms_.clear();
  for (const Word& word : segmenter_.words()) word.ascii ? SplitAscii(word) : SplitUnicode(word);
}

void TermAnalyzer::Add(size_t begin, size_t end, bool letters, bool new_word) {
  const size_t length = LightStem(segmenter_.bytes({begin, 0, 0, 0}), end - begin);
  terms_.push_back({begin, length, letters, length != end - begin, new_word});
}

// ASCII words are made of letters, digits, and `.` and `/` between two digits.
void TermAnalyzer::SplitAscii(const Word& word) {
  const uint8_t* const bytes = segmenter_.bytes(word);
  for (size_t begin = 0, end = 0; begin < word.length; begin = end) {
    const bool letters = bytes[begin] >= 'a';
    while (end < word.length && (bytes[end] >= 'a') == letters) ++end;
    Add(word.begin + begin, word.begin + end, letters, begin == 0);
  }
}

void TermAnalyzer::SplitUnicode(const Word& word) {
  const uint8_t* const begin = segmenter_.bytes(word);
  const uint8_t* const end = begin + word.length;
  // The end of the longest run of one class that starts at `p`.
  const auto run_end = [end](const uint8_t* p, TermClass kind) {
    while (p < end) {
      const Decoded decoded = DecodeValid(p);
      if (ClassOf(decoded.code_point) != kind) break;
      p += decoded.bytes;
    }
    return p;
  };
  bool first = true;
  for (const uint8_t* p = begin; p < end;) {
    const uint8_t* const run = p;
    p = run_end(p, TermClass::kDecimal);
    const bool decimal = p != run;
    while (decimal && p < end && (*p == '.' || *p == '/')) {
      const uint8_t* const behind = run_end(p + 1, TermClass::kDecimal);
      if (behind == p + 1) break;
      p = behind;
    }
    if (!decimal) p = run_end(p, TermClass::kLetter);
    if (p == run) {
      p += DecodeValid(p).bytes;
      continue;
    }
    Add(word.begin + static_cast<size_t>(run - begin), word.begin + static_cast<size_t>(p - begin), !decimal, first);
    first = false;
  }
  if (first) Add(word.begin, word.begin + word.length, false, true);
}

}  // namespace dpsr
