#include "tokenizer_cc/core/terms/trigram_index.h"

#include <algorithm>

#include "tokenizer_cc/core/terms/analyzer.h"
#include "tokenizer_cc/core/text/utf8.h"

namespace dpsr {
namespace {

constexpr size_t kMostLetters = 64;
// Ideographs are words of one letter, and too many to try.
constexpr size_t kShortestSpelledWord = 2;

}  // namespace

TrigramIndex::TrigramIndex(uint64_t num_words)
    : buckets_(std::clamp(num_words, kFewestTrigramBuckets, kMostTrigramBuckets)), letter_counts_(0x110000) {}

void TrigramIndex::Add(std::string_view word, int32_t id) {
  const size_t letters = CountLetters(word);
  if (num_words_ == kMostIndexedWords || letters < kShortestSpelledWord) return;
  ++num_words_;
  for (size_t i = 0; i < word.size();) {
    const Decoded decoded = DecodeValid(reinterpret_cast<const uint8_t*>(word.data()) + i);
    ++letter_counts_[decoded.code_point];
    i += decoded.bytes;
  }
  if (letters < kShortestIndexedWord) return;
  ForEachTrigramBucket(word, buckets_, [&](uint32_t bucket) { postings_.push_back({bucket, id}); });
}

std::vector<uint32_t> TrigramIndex::Letters() const {
  std::vector<uint32_t> letters;
  for (uint32_t code_point = 0; code_point < letter_counts_.size(); ++code_point) {
    if (letter_counts_[code_point] != 0) letters.push_back(code_point);
  }
  std::stable_sort(letters.begin(), letters.end(),
                   [&](uint32_t a, uint32_t b) { return letter_counts_[a] > letter_counts_[b]; });
  letters.resize(std::min(letters.size(), kMostLetters));
  return letters;
}

void TrigramIndex::Write(std::vector<uint32_t>* begins, std::vector<int32_t>* postings) const {
  begins->assign(buckets_ + 1, 0);
  // A word with a trigram twice, or with two of one bucket, has one posting there.
  std::vector<int32_t> last(buckets_, -1);
  const auto is_new = [&](const Posting& posting) {
    return last[posting.bucket] != posting.id && ((last[posting.bucket] = posting.id), true);
  };
  for (const Posting& posting : postings_) (*begins)[posting.bucket + 1] += is_new(posting);
  for (size_t bucket = 0; bucket < buckets_; ++bucket) (*begins)[bucket + 1] += (*begins)[bucket];
  postings->resize(begins->back());
  std::vector<uint32_t> next(begins->begin(), begins->end() - 1);
  std::fill(last.begin(), last.end(), -1);
  for (const Posting& posting : postings_) {
    if (is_new(posting)) (*postings)[next[posting.bucket]++] = posting.id;
  }
}

}  // namespace dpsr
