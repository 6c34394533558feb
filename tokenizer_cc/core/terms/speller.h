// A word that no item has -> the words it may stand for.

#ifndef DPSR_TOKENIZER_CC_CORE_TERMS_SPELLER_H_
#define DPSR_TOKENIZER_CC_CORE_TERMS_SPELLER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer_cc/core/terms/vocabulary.h"

namespace dpsr {

struct WeightedTerm {
  int32_t id;
  float weight;  // in (0, 1]
};

// Looks for, and ends with the first that there is:
//
//   1. words at one edit. All edits (deletion, insertion and replacement by a letter of the vocabulary, swap of
//      neighbours) are made and looked up, after which a plural s is removed: "boadrs" gives "board".
//   2. two frequent words written as one;
//   3. words at two edits, of those that share most trigrams of "#word#".
//
// The most frequent kMostAlternatives are taken. The first has the weight 1, or kFarWeight at two edits; each other one
// the root of its share of the first one's document frequency.
//
// The work is bounded, whatever the word and the vocabulary: at most (2 * kLongest + 1) * (letters + 1) lookups with 64
// letters, kMostPostings postings and kMostCompared comparisons. Words are given as the text has them, with a plural s.
// Immutable and safe to share between threads, given a Workspace each.
class Speller {
 public:
  static constexpr size_t kShortest = 3, kLongest = 32;  // letters of a word that is corrected
  static constexpr size_t kShortestFar = 6;              // at two edits
  static constexpr size_t kShortestPart = 3;             // of two words written as one
  static constexpr size_t kMostAlternatives = 4;
  static constexpr size_t kMostPostings = 1 << 13, kMostPostingsOfTrigram = 1 << 11, kMostCompared = 64;
  static constexpr float kFarWeight = 0.7f;

  // Working memory, reused.
  class Workspace {
   private:
    friend class Speller;
    struct Shared {
      int32_t place;  // id + 1; 0: empty
      uint32_t trigrams;
    };
    std::vector<char> edited_;
    std::vector<int32_t> found_;
    std::vector<uint32_t> buckets_;
    std::vector<Shared> table_, shared_;
  };

  Speller(const TermSections& sections, const TermVocabulary& vocabulary);

  // Appends what a word may stand for.
  void Correct(std::string_view word, Workspace* workspace, std::vector<WeightedTerm>* terms) const;
  // Appends words that one letter between two parts, or none, makes of them: "d3ck" for its parts "d" and "ck".
  void CorrectBetween(std::string_view before, std::string_view after, Workspace* workspace,
                      std::vector<WeightedTerm>* terms) const;
  // The word that two parts make; kNoTerm if none.
  int32_t Join(std::string_view before, std::string_view after, Workspace* workspace) const;

 private:
  // The id of `before` + `between` + `after` without its plural s.
  int32_t Lookup(std::string_view before, std::string_view between, std::string_view after, Workspace* workspace) const;
  void AddEdits(std::string_view word, Workspace* workspace) const;
  bool Split(std::string_view word, Workspace* workspace, std::vector<WeightedTerm>* terms) const;
  void AddFar(std::string_view word, Workspace* workspace) const;
  void CollectShared(std::string_view word, Workspace* workspace) const;
  // Appends the most frequent ones of those found, the best of which has the given weight.
  void Take(float weight, Workspace* workspace, std::vector<WeightedTerm>* terms) const;

  const TermVocabulary* vocabulary_;
  std::vector<std::string> letters_;  // in UTF-8
  const uint32_t* posting_begin_;
  const int32_t* postings_;
  size_t buckets_;
  int32_t frequent_;  // fewest documents with a part of two words written as one
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_TERMS_SPELLER_H_
