#include "tokenizer_cc/core/text/normalizer.h"

#include "tokenizer_cc/core/text/ascii.h"
#include "tokenizer_cc/core/text/unicode_tables.h"
#include "tokenizer_cc/core/text/utf8.h"

namespace dpsr {
namespace {

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
  canonical_.Clear();
  for (const uint32_t code_point : cluster_) canonical_.Decompose(code_point);
  canonical_.Reorder();
  canonical_.Compose();
  for (const uint32_t code_point : canonical_.code_points()) {
    const auto folded = unicode::Casefold(code_point);
    if (folded.size == 0) AppendCodePoint(code_point, out);
    for (size_t i = 0; i < folded.size; ++i) AppendCodePoint(folded.data[i], out);
  }
}

}  // namespace dpsr
