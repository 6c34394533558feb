// Terms -> ids, over the bytes of a model.

#ifndef DPSR_TOKENIZER_CC_CORE_TERMS_VOCABULARY_H_
#define DPSR_TOKENIZER_CC_CORE_TERMS_VOCABULARY_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer_cc/core/terms/model_file.h"

namespace dpsr {

inline constexpr int32_t kNoTerm = -1;

// A word, or a bigram of two words by their ids.
struct TermEntry {
  std::string_view word;   // empty for a bigram
  uint32_t first, second;  // of a bigram
  uint32_t document_frequency;
};

// Lays out a model: entry i gets id i, and the entries descend by document frequency. Returns what went wrong; empty if
// nothing.
std::string WriteTermModel(bool bigrams, const std::vector<TermEntry>& entries, uint64_t num_documents,
                           ModelBytes* model);

// A view of a checked model, which must outlive it. Lookups return kNoTerm for what is not in the vocabulary; a
// PrefetchWord some time ahead of its FindWord hides the latency of memory.
class TermVocabulary {
 public:
  explicit TermVocabulary(const TermSections& model)
      : frequencies_(model.data<int32_t>(kTermFrequencies)),
        text_begin_(model.data<uint32_t>(kTermTextBegin)),
        texts_(model.data<char>(kTermTexts)),
        slots_(model.data<TermSlot>(kTermSlots)),
        capacity_(model.size<TermSlot>(kTermSlots)) {}

  // kTermPadding bytes are readable behind it.
  std::string_view text(int32_t id) const { return {texts_ + text_begin_[id], text_begin_[id + 1] - text_begin_[id]}; }
  int32_t document_frequency(int32_t id) const { return frequencies_[id]; }

  // `hash` is HashWord of the word.
  void PrefetchWord(uint64_t hash) const { __builtin_prefetch(slots_ + Reduce(hash, capacity_)); }
  int32_t FindWord(std::string_view word, uint64_t hash) const {
    return Find(hash, [&](uint32_t id) { return text(static_cast<int32_t>(id)) == word; });
  }
  // 8 bytes must be readable behind the word.
  int32_t FindWord(std::string_view word) const {
    return FindWord(word, HashWord(reinterpret_cast<const uint8_t*>(word.data()), word.size()));
  }

  int32_t FindBigram(int32_t first, int32_t second) const {
    const std::string_view a = text(first), b = text(second);
    const auto is_it = [&](uint32_t id) {
      const std::string_view found = text(static_cast<int32_t>(id));
      return found.size() == a.size() + 1 + b.size() && found.substr(0, a.size()) == a && found[a.size()] == ' ' &&
             found.substr(a.size() + 1) == b;
    };
    return Find(HashTermPair(static_cast<uint32_t>(first), static_cast<uint32_t>(second)), is_it);
  }

 private:
  template <class IsIt>
  int32_t Find(uint64_t hash, IsIt is_it) const {
    return static_cast<int32_t>(FindTermSlot(slots_, capacity_, hash, is_it)->place) - 1;
  }

  const int32_t* frequencies_;
  const uint32_t* text_begin_;
  const char* texts_;
  const TermSlot* slots_;
  size_t capacity_;
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_TERMS_VOCABULARY_H_
