#include "tokenizer_cc/core/text/segmenter.h"

#include <array>
#include <cstring>

#include "tokenizer_cc/core/text/unicode_tables.h"
#include "tokenizer_cc/core/text/utf8.h"

namespace dpsr {
namespace {

constexpr uint32_t kFractionSlash = 0x2044;

// ASCII in the order that makes "is inside a word" one comparison.
enum AsciiClass : uint8_t { kOther, kDotOrSlash, kNotAscii, kAsciiDigit, kAsciiLetter };

constexpr std::array<uint8_t, 256> MakeAsciiClasses() {
  std::array<uint8_t, 256> classes{};
  for (size_t byte = 0x80; byte < 0x100; ++byte) classes[byte] = kNotAscii;
  for (size_t byte = 'a'; byte <= 'z'; ++byte) classes[byte] = kAsciiLetter;
  for (size_t byte = '0'; byte <= '9'; ++byte) classes[byte] = kAsciiDigit;
  classes['.'] = classes['/'] = kDotOrSlash;
  return classes;
}
constexpr std::array<uint8_t, 256> kAsciiClasses = MakeAsciiClasses();

// One code point of normalized text, with the ignored ones before it left out.
struct Element {
  const uint8_t* p;  // null at the end of the text
  uint32_t bytes;
  uint32_t code_point;
  uint8_t segment_class;
};

Element NextElement(const uint8_t* p, const uint8_t* end) {
  while (p < end) {
    const Decoded decoded = DecodeValid(p);
    const uint8_t segment_class = unicode::SegmentClassOf(decoded.code_point);
    if (segment_class != unicode::kIgnored) return {p, decoded.bytes, decoded.code_point, segment_class};
    p += decoded.bytes;
  }
  return {nullptr, 0, 0, unicode::kSeparator};
}

bool IsDotOrSlash(uint32_t code_point) {
  return code_point == '.' || code_point == '/' || code_point == kFractionSlash;
}

}  // namespace

void Segmenter::Segment(std::string_view text) {
  words_.clear();
  text_.Clear();
  text_.Reserve(text.size() + kPadding);
  normalizer_.Normalize(text, &text_);
  // NULs end the last word, so that the loops need no bounds.
  text_.Reserve(kPadding);
  std::memset(text_.end(), 0, kPadding);
  const uint8_t* p = SegmentAscii(text_.data());
  if (p != text_.data() + text_.size()) SegmentUnicode(p);
}

const uint8_t* Segmenter::SegmentAscii(const uint8_t* p) {
  const uint8_t* const text = text_.data();
  const uint8_t* const end = text + text_.size();
  while (p < end) {
    const uint8_t first = kAsciiClasses[*p];
    if (first < kNotAscii) {
      ++p;
      continue;
    }
    const uint8_t* const begin = p;
    bool latin = false;
    while (true) {
      const uint8_t current = kAsciiClasses[*p];
      if (current > kNotAscii) {
        latin |= current == kAsciiLetter;
      } else if (current == kNotAscii) {
        return begin;
      } else if (current != kDotOrSlash || kAsciiClasses[p[-1]] != kAsciiDigit || kAsciiClasses[p[1]] != kAsciiDigit) {
        // A digit that is not ASCII may follow the dot.
        if (current == kDotOrSlash && kAsciiClasses[p[1]] == kNotAscii) return begin;
        break;
      }
      ++p;
    }
    words_.push_back({static_cast<size_t>(begin - text), static_cast<size_t>(p - begin), latin, true});
  }
  return end;
}

// As SegmentAscii for all of Unicode. Words are moved together over what is dropped: `target` is never ahead of what is
// still to be read.
void Segmenter::SegmentUnicode(const uint8_t* p) {
  uint8_t* const text = text_.data();
  uint8_t* target = text + (p - text);
  const uint8_t* const end = text + text_.size();

  uint8_t* begin = nullptr;  // of the current word
  uint8_t script = 0;        // of the current word; 0 before its first letter that has one
  bool latin = false, ascii = true, after_digit = false, closed = false;
  const auto finish_word = [&] {
    if (begin == nullptr) return;
    words_.push_back({static_cast<size_t>(begin - text), static_cast<size_t>(target - begin), latin, ascii});
    begin = nullptr;
  };
  const auto append = [&](const Element& element) {
    if (begin == nullptr) {
      begin = target;
      script = 0;
      latin = after_digit = closed = false;
      ascii = true;
    }
    if (element.code_point == kFractionSlash) {
      *target++ = '/';
      return;
    }
    std::memmove(target, element.p, element.bytes);
    target += element.bytes;
    ascii &= element.bytes == 1;
  };

  for (Element element = NextElement(p, end); element.p != nullptr;) {
    const Element next = NextElement(element.p + element.bytes, end);
    const uint8_t kind = element.segment_class;
    if (kind == unicode::kMark) {
      if (begin != nullptr) append(element);
      after_digit = false;
    } else if (kind == unicode::kSeparator) {
      const bool inside =
          begin != nullptr && after_digit && next.segment_class == unicode::kDigit && IsDotOrSlash(element.code_point);
      if (inside) {
        append(element);
      } else {
        finish_word();
      }
      after_digit = false;
    } else {
      const bool is_script = kind >= unicode::kLatin;
      if (closed || kind == unicode::kUnit || (is_script && script != 0 && script != kind)) finish_word();
      append(element);
      closed = kind == unicode::kUnit;
      after_digit = kind == unicode::kDigit;
      if (is_script) script = kind;
      latin |= kind == unicode::kLatin;
    }
    element = next;
  }
  finish_word();
  // The reserve behind the text still holds: target never passes its end.
  if (target < end) std::memset(target, 0, static_cast<size_t>(end - target));
  text_.Truncate(static_cast<size_t>(target - text));
}

}  // namespace dpsr
