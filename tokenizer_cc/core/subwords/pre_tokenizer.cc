#include "tokenizer_cc/core/subwords/pre_tokenizer.h"

#include <cstring>

#include "tokenizer_cc/core/text/hf_unicode.h"
#include "tokenizer_cc/core/text/utf8.h"

namespace dpsr {
namespace {

constexpr uint32_t kClassFlags = 127;

}  // namespace

PreTokenizer::PreTokenizer(const SubwordSections& model) {
  const auto* steps = model.data<Step>(kSteps);
  for (size_t i = 0; i < model.size<Step>(kSteps); ++i) {
    if (steps[i].kind > StepKind::kLastNormalizer) cutters_.push_back(MakeCutter(steps[i], model.first(steps[i])));
  }
}

PreTokenizer::Cutter PreTokenizer::MakeCutter(const Step& step, std::string_view space) {
  const auto class_of = [&](uint32_t flags) -> int {
    switch (step.kind) {
      case StepKind::kBertWords:
        return flags & hf::kWhiteSpace ? kRemoved : flags & hf::kPunctuation ? kIsolated : kFirstRun;
      case StepKind::kWhitespace:
        return flags & hf::kWord ? kFirstRun : flags & hf::kWhiteSpace ? kRemoved : kFirstRun + 1;
      case StepKind::kWhitespaceSplit:
        return flags & hf::kWhiteSpace ? kRemoved : kFirstRun;
      case StepKind::kPunctuationSplit:
        return flags & hf::kPunctuation ? kIsolated : kFirstRun;
      default:
        return !(flags & hf::kNumeric) ? kFirstRun : step.flags != 0 ? kIsolated : kFirstRun + 1;
    }
  };
  Cutter cutter = {step, {}, {}, space};
  for (uint32_t flags = 0; flags <= kClassFlags; ++flags) {
    cutter.by_flags[flags] = static_cast<uint8_t>(class_of(flags));
  }
  for (uint32_t c = 0; c < 128; ++c) cutter.ascii[c] = cutter.by_flags[hf::Flags(c) & kClassFlags];
  return cutter;
}

void PreTokenizer::CutByClass(const Cutter& cutter, std::string_view text, Words* words) {
  const auto* p = reinterpret_cast<const uint8_t*>(text.data());
  const uint8_t* const end = p + text.size();
  const uint8_t* begin = p;
  uint8_t run = kRemoved;
  const auto close = [&] {
    const std::string_view word(reinterpret_cast<const char*>(begin), static_cast<size_t>(p - begin));
    if (run != kRemoved) words->Append(&word, 1);
  };
  while (p != end) {
    uint8_t found;
    uint32_t bytes = 1;
    if (*p < 0x80) {
      found = cutter.ascii[*p];
    } else {
      const Decoded decoded = DecodeValid(p);
      bytes = decoded.bytes;
      found = cutter.by_flags[hf::Flags(decoded.code_point) & kClassFlags];
    }
    if (found != run || found == kIsolated) {
      close();
      begin = p;
      run = found;
    }
    p += bytes;
  }
  close();
}

// Replaces spaces by their mark, puts one before each piece, and lets each begin a word.
void PreTokenizer::MarkSpaces(const Cutter& cutter, const Words& from, Words* words, Buffer<uint8_t>* texts) {
  const std::string_view space = cutter.space;
  size_t bytes = 0;
  for (size_t i = 0; i < from.size(); ++i) bytes += (from.data()[i].size() + 1) * space.size();
  texts->Clear();
  texts->Reserve(bytes);  // what the words are views of does not move
  const auto mark = [&] { texts->Append(reinterpret_cast<const uint8_t*>(space.data()), space.size()); };
  const auto add = [&](size_t begin) {
    const std::string_view word(reinterpret_cast<const char*>(texts->data()) + begin, texts->size() - begin);
    if (!word.empty()) words->Append(&word, 1);
  };
  for (size_t i = 0; i < from.size(); ++i) {
    const std::string_view text = from.data()[i];
    size_t begin = texts->size();
    const auto is_mark = [&](size_t k) { return text.compare(k, space.size(), space) == 0; };
    if (cutter.step.flags & kPrependAlways && text[0] != ' ' && !is_mark(0)) mark();
    size_t plain = 0;  // what follows is not in `texts` yet
    const auto copy = [&](size_t end) {
      texts->Append(reinterpret_cast<const uint8_t*>(text.data()) + plain, end - plain);
    };
    for (size_t k = 0; k < text.size();) {
      const bool blank = text[k] == ' ';
      if (!blank && !(text[k] == space[0] && is_mark(k))) {
        ++k;
        continue;
      }
      copy(k);
      if (cutter.step.flags & kSplitWords) {
        add(begin);
        begin = texts->size();
      }
      mark();
      plain = k += blank ? 1 : space.size();
    }
    copy(text.size());
    add(begin);
  }
}

const PreTokenizer::Words& PreTokenizer::Cut(std::string_view text, Workspace* workspace) const {
  int source = 0;
  Words* words = &workspace->words[source];
  words->Clear();
  if (text.empty()) return *words;
  words->Append(&text, 1);
  for (const Cutter& cutter : cutters_) {
    Words* const next = &workspace->words[1 - source];
    next->Clear();
    if (cutter.step.kind == StepKind::kMetaspace) {
      MarkSpaces(cutter, *words, next, &workspace->texts[source]);
    } else {
      for (size_t i = 0; i < words->size(); ++i) CutByClass(cutter, words->data()[i], next);
    }
    words = next;
    source = 1 - source;
  }
  return *words;
}

}  // namespace dpsr
