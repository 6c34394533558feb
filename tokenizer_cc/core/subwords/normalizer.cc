#include "tokenizer_cc/core/subwords/normalizer.h"

#include <algorithm>
#include <array>

#include "tokenizer_cc/core/text/ascii.h"
#include "tokenizer_cc/core/text/utf8.h"

namespace dpsr {
namespace {

const uint8_t* Begin(std::string_view text) { return reinterpret_cast<const uint8_t*>(text.data()); }
const uint8_t* End(std::string_view text) { return Begin(text) + text.size(); }
std::string_view View(const Buffer<uint8_t>& buffer) {
  return {reinterpret_cast<const char*>(buffer.data()), buffer.size()};
}

void Put(uint32_t code_point, Buffer<uint8_t>* out) {
  out->Reserve(4);
  out->Advance(EncodeUtf8(code_point, out->end()));
}

void PutLower(uint32_t code_point, Buffer<uint8_t>* out) {
  const auto lower = hf::Lower(code_point);
  if (lower.size == 0) Put(code_point, out);
  for (size_t i = 0; i < lower.size; ++i) Put(lower.data[i], out);
}

// Runs `ascii` over whole runs of ASCII and `other` over each other code point.
template <class Ascii, class Other>
void ForEachRun(std::string_view text, Ascii ascii, Other other) {
  const uint8_t* p = Begin(text);
  const uint8_t* const end = End(text);
  while (p != end) {
    const uint8_t* const run_end = AsciiEnd(p, end);
    if (run_end != p) ascii(p, run_end);
    p = run_end;
    while (p != end && *p >= 0x80) {
      const Decoded decoded = DecodeValid(p);
      other(decoded.code_point, p, decoded.bytes);
      p += decoded.bytes;
    }
  }
}

bool IsChinese(uint32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

constexpr uint8_t kDropped = 0xFF;

// What BERT's normalizer makes of each ASCII character.
std::array<uint8_t, 128> BertAscii(uint32_t flags) {
  std::array<uint8_t, 128> ascii;
  for (uint8_t c = 0; c < 128; ++c) {
    const bool clean = flags & kCleanText;
    const bool upper = flags & kBertLowercase && c >= 'A' && c <= 'Z';
    ascii[c] = upper ? c + 32 : c;
    if (clean && hf::Flags(c) & hf::kWhiteSpace) ascii[c] = ' ';
    if (clean && hf::Flags(c) & hf::kControl) ascii[c] = kDropped;
  }
  return ascii;
}

// BERT's normalizer in one pass. Decomposition may have to sort marks: those that stay are kept back until the next
// code point that is none.
class Bert {
 public:
  Bert(uint32_t flags, const std::array<uint8_t, 128>& ascii, std::vector<uint32_t>* marks, Buffer<uint8_t>* out)
      : flags_(flags), ascii_(ascii), marks_(*marks), out_(*out) {}

  void Run(std::string_view text) {
    marks_.clear();
    out_.Reserve(text.size());
    ForEachRun(
        text, [&](const uint8_t* p, const uint8_t* end) { Ascii(p, end); },
        [&](uint32_t code_point, const uint8_t*, uint32_t) { Other(code_point); });
    Flush();
  }

 private:
  void Ascii(const uint8_t* p, const uint8_t* end) {
    Flush();
    out_.Reserve(static_cast<size_t>(end - p));
    uint8_t* target = out_.end();
    const uint8_t* const begin = target;
    for (; p != end; ++p) {
      *target = ascii_[*p];
      target += *target != kDropped;
    }
    out_.Advance(static_cast<size_t>(target - begin));
  }

  void Other(uint32_t code_point) {
    const uint16_t flags = hf::Flags(code_point);
    if (flags_ & kCleanText) {
      if (flags & hf::kControl) return;
      if (flags & hf::kWhiteSpace) code_point = ' ';
    }
    const bool chinese = flags_ & kHandleChinese && IsChinese(code_point);
    if (chinese) Emit(' ');
    if (flags_ & kBertStripAccents) {
      Decompose(code_point);
    } else {
      Emit(code_point);
    }
    if (chinese) Emit(' ');
  }

  void Decompose(uint32_t code_point) {
    if (hangul::Decompose(code_point, [&](uint32_t jamo) { Emit(jamo); })) return;
    const auto parts = hf::Forms<false>::Decomposition(code_point);
    if (parts.size == 0) return EmitDecomposed(code_point);
    for (size_t i = 0; i < parts.size; ++i) EmitDecomposed(parts.data[i]);
  }

  void EmitDecomposed(uint32_t code_point) {
    const bool stays = !(hf::Flags(code_point) & hf::kNonspacing);
    if (hf::Forms<false>::CombiningClass(code_point) == 0) {
      // What is dropped has parted the marks before it from those behind it all the same.
      Flush();
      if (stays) Append(code_point);
    } else if (stays) {
      marks_.push_back(code_point);
    }
  }

  void Emit(uint32_t code_point) {
    Flush();
    Append(code_point);
  }

  void Append(uint32_t code_point) {
    if (flags_ & kBertLowercase) {
      PutLower(code_point, &out_);
    } else {
      Put(code_point, &out_);
    }
  }

  void Flush() {
    if (marks_.empty()) return;
    std::stable_sort(marks_.begin(), marks_.end(), [](uint32_t a, uint32_t b) {
      return hf::Forms<false>::CombiningClass(a) < hf::Forms<false>::CombiningClass(b);
    });
    for (const uint32_t mark : marks_) Append(mark);
    marks_.clear();
  }

  const uint32_t flags_;
  const std::array<uint8_t, 128>& ascii_;
  std::vector<uint32_t>& marks_;
  Buffer<uint8_t>& out_;
};

template <class Forms>
void Form(std::string_view text, bool composed, Canonical<Forms>* canonical, Buffer<uint8_t>* out) {
  canonical->Clear();
  const auto flush = [&] {
    if (canonical->empty()) return;
    canonical->Reorder();
    if (composed) canonical->Compose();
    for (const uint32_t code_point : canonical->code_points()) Put(code_point, out);
    canonical->Clear();
  };
  ForEachRun(
      text,
      [&](const uint8_t* p, const uint8_t* end) {
        flush();
        // The last one may be the base of a mark.
        out->Append(p, static_cast<size_t>(end - p) - 1);
        canonical->Decompose(end[-1]);
      },
      [&](uint32_t code_point, const uint8_t*, uint32_t) { canonical->Decompose(code_point); });
  flush();
}

void Lowercase(std::string_view text, Buffer<uint8_t>* out) {
  ForEachRun(
      text, [&](const uint8_t* p, const uint8_t* end) { AppendLower(p, end, out); },
      [&](uint32_t code_point, const uint8_t*, uint32_t) { PutLower(code_point, out); });
}

void StripAccents(std::string_view text, Buffer<uint8_t>* out) {
  ForEachRun(
      text, [&](const uint8_t* p, const uint8_t* end) { out->Append(p, static_cast<size_t>(end - p)); },
      [&](uint32_t code_point, const uint8_t* p, uint32_t bytes) {
        if (!(hf::Flags(code_point) & hf::kCombining)) out->Append(p, bytes);
      });
}

bool IsWhite(uint32_t code_point) { return hf::Flags(code_point) & hf::kWhiteSpace; }

std::string_view Stripped(std::string_view text, uint32_t flags) {
  const uint8_t *p = Begin(text), *end = End(text);
  while (flags & kStripLeft && p != end && IsWhite(DecodeValid(p).code_point)) p += DecodeValid(p).bytes;
  while (flags & kStripRight && p != end) {
    const uint8_t* last = end - 1;
    while (IsContinuation(*last)) --last;
    if (!IsWhite(DecodeValid(last).code_point)) break;
    end = last;
  }
  return {reinterpret_cast<const char*>(p), static_cast<size_t>(end - p)};
}

void Append(std::string_view text, Buffer<uint8_t>* out) { out->Append(Begin(text), text.size()); }

void Replace(std::string_view text, std::string_view from, std::string_view to, Buffer<uint8_t>* out) {
  for (size_t begin = 0;;) {
    const size_t found = text.find(from, begin);
    Append(text.substr(begin, found - begin), out);
    if (found == text.npos) return;
    Append(to, out);
    begin = found + from.size();
  }
}

void ReplaceSpaces(std::string_view text, std::string_view to, Buffer<uint8_t>* out) {
  for (size_t begin = 0;;) {
    const size_t found = text.find("  ", begin);
    Append(text.substr(begin, found - begin), out);
    if (found == text.npos) return;
    Append(to, out);
    begin = std::min(text.find_first_not_of(' ', found), text.size());
  }
}

}  // namespace

SubwordNormalizer::SubwordNormalizer(const SubwordSections& model) {
  const auto* steps = model.data<Step>(kSteps);
  for (size_t i = 0; i < model.size<Step>(kSteps) && steps[i].kind <= StepKind::kLastNormalizer; ++i) {
    Normalizer normalizer = {steps[i], model.first(steps[i]), model.second(steps[i]), {}, {}};
    if (steps[i].kind == StepKind::kBert) normalizer.bert_ascii = BertAscii(steps[i].flags);
    if (steps[i].kind == StepKind::kPrecompiled) normalizer.charsmap = Precompiled(normalizer.first);
    normalizers_.push_back(normalizer);
  }
}

void SubwordNormalizer::Apply(const Normalizer& normalizer, std::string_view text, Workspace* workspace,
                              Buffer<uint8_t>* out) {
  const uint32_t flags = normalizer.step.flags;
  switch (normalizer.step.kind) {
    case StepKind::kBert:
      return Bert(flags, normalizer.bert_ascii, &workspace->marks, out).Run(text);
    case StepKind::kForm:
      if (flags & kCompatibility) return Form(text, flags & kComposed, &workspace->compatibility, out);
      return Form(text, flags & kComposed, &workspace->canonical, out);
    case StepKind::kLowercase:
      return Lowercase(text, out);
    case StepKind::kStripAccents:
      return StripAccents(text, out);
    case StepKind::kStrip:
      return Append(Stripped(text, flags), out);
    case StepKind::kReplace:
      return Replace(text, normalizer.first, normalizer.second, out);
    case StepKind::kReplaceSpaces:
      return ReplaceSpaces(text, normalizer.second, out);
    case StepKind::kPrepend:
      if (!text.empty()) Append(normalizer.first, out);
      return Append(text, out);
    default:
      return normalizer.charsmap.Apply(text, out);
  }
}

std::string_view SubwordNormalizer::Normalize(std::string_view text, Workspace* workspace) const {
  int target = 0;
  for (const Normalizer& normalizer : normalizers_) {
    Buffer<uint8_t>* const out = &workspace->texts[target];
    out->Clear();
    Apply(normalizer, text, workspace, out);
    text = View(*out);
    target = 1 - target;
  }
  return text;
}

}  // namespace dpsr
