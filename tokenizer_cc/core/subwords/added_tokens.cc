#include "tokenizer_cc/core/subwords/added_tokens.h"

#include "tokenizer_cc/core/text/hf_unicode.h"
#include "tokenizer_cc/core/text/utf8.h"

namespace dpsr {
namespace {

const uint8_t* At(std::string_view text, size_t place) { return reinterpret_cast<const uint8_t*>(text.data()) + place; }

bool HasFlag(std::string_view text, size_t place, hf::Flag flag) {
  return hf::Flags(DecodeValid(At(text, place)).code_point) & flag;
}

// Where the code point before `end` begins.
size_t Before(std::string_view text, size_t end) {
  do --end;
  while (IsContinuation(static_cast<uint8_t>(text[end])));
  return end;
}

}  // namespace

AddedTokens::AddedTokens(const SubwordSections& model, SubwordSection section)
    : trie_(model.trie(section)), tokens_(model.data<AddedToken>(kAdded)) {
  for (uint32_t byte = 0; byte < 256 && !empty(); ++byte) {
    first_bytes_[byte] = trie_.Child(0, static_cast<uint8_t>(byte)) != 0;
  }
}

AddedTokens::Match AddedTokens::Find(std::string_view text, size_t place) const {
  for (; place < text.size(); ++place) {
    const auto byte = static_cast<uint8_t>(text[place]);
    if (!first_bytes_[byte] || IsContinuation(byte)) continue;
    const auto [value, bytes] = trie_.LongestPrefix(At(text, place), At(text, text.size()));
    // In a damaged model a token may be a part of a character.
    const size_t end = place + bytes;
    const bool whole = value >= 0 && (end == text.size() || !IsContinuation(*At(text, end)));
    if (whole) return {tokens_ + value, place, end};
  }
  return {nullptr, 0, 0};
}

bool AddedTokens::Accepts(std::string_view text, const Match& match) {
  if (!(match.token->flags & kSingleWord)) return true;
  const bool joins_before = match.begin != 0 && HasFlag(text, Before(text, match.begin), hf::kWord);
  const bool joins_after = match.end != text.size() && HasFlag(text, match.end, hf::kWord);
  return !joins_before && !joins_after;
}

size_t AddedTokens::BeforeSpace(std::string_view text, size_t end) {
  while (end != 0 && HasFlag(text, Before(text, end), hf::kWhiteSpace)) end = Before(text, end);
  return end;
}

size_t AddedTokens::BehindSpace(std::string_view text, size_t begin) {
  while (begin < text.size() && HasFlag(text, begin, hf::kWhiteSpace)) begin += DecodeValid(At(text, begin)).bytes;
  return begin;
}

}  // namespace dpsr
