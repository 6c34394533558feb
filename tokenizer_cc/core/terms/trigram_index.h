// Words by their letter trigrams, as spelling corrections look for them.

#ifndef DPSR_TOKENIZER_CC_CORE_TERMS_TRIGRAM_INDEX_H_
#define DPSR_TOKENIZER_CC_CORE_TERMS_TRIGRAM_INDEX_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "tokenizer_cc/core/bags/trigrams.h"
#include "tokenizer_cc/core/hashing.h"

namespace dpsr {

// Trigrams share as many buckets as a vocabulary has words, within limits: ASCII has 20,000 trigrams.
inline constexpr uint64_t kFewestTrigramBuckets = 64, kMostTrigramBuckets = 1 << 16;
// Of a larger vocabulary the most frequent words are taken.
inline constexpr uint32_t kMostIndexedWords = 1 << 20;
// Words of fewer letters are not: one slip changes most of their trigrams.
inline constexpr size_t kShortestIndexedWord = 4;

// Calls visit(bucket) for each trigram of "#word#".
template <class Visit>
void ForEachTrigramBucket(std::string_view word, uint64_t buckets, Visit&& visit) {
  ForEachTrigram(reinterpret_cast<const uint8_t*>(word.data()), word.size(), [&](uint32_t a, uint32_t b, uint32_t c) {
    visit(static_cast<uint32_t>(Reduce(HashTrigram(PackTrigram(a, b, c)), buckets)));
  });
}

// Collects the words of a vocabulary in the order of their ids.
class TrigramIndex {
 public:
  explicit TrigramIndex(uint64_t num_words);

  // A word that is not made of letters alone, or has one letter, is left out.
  void Add(std::string_view word, int32_t id);

  // Code points of the words, the most frequent ones first.
  std::vector<uint32_t> Letters() const;
  // As in the sections kTermPostingBegin and kTermPostings.
  void Write(std::vector<uint32_t>* begins, std::vector<int32_t>* postings) const;

 private:
  struct Posting {
    uint32_t bucket;
    int32_t id;
  };

  uint64_t buckets_;
  uint32_t num_words_ = 0;
  std::vector<Posting> postings_;
  std::vector<uint32_t> letter_counts_;  // by code point
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_TERMS_TRIGRAM_INDEX_H_
