// Document counts of words and of pairs of words, small enough for millions of each.

#ifndef DPSR_TOKENIZER_CC_CORE_TERMS_TERM_COUNTS_H_
#define DPSR_TOKENIZER_CC_CORE_TERMS_TERM_COUNTS_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "tokenizer_cc/core/buffer.h"
#include "tokenizer_cc/core/hashing.h"
#include "tokenizer_cc/core/terms/model_file.h"

namespace dpsr {

// How many documents have a term. Documents are numbered from 1.
struct DocumentCount {
  uint32_t documents, last_document;

  void CountOnce(uint32_t document) {
    documents += last_document != document;
    last_document = document;
  }
};

// Distinct words, numbered from 0 as they come: 16 bytes each, 12 to 24 of the table, and their texts.
class WordCounts {
 public:
  // The number of a word, behind which 8 bytes are readable.
  uint32_t Number(std::string_view word) {
    const uint64_t hash = Hash(word);
    TermSlot* const slot =
        FindTermSlot(slots_.data(), slots_.size(), hash, [&](uint32_t number) { return text(number) == word; });
    if (slot->place != 0) return slot->place - 1;
    if (3 * (size() + 1) > 2 * slots_.size()) {
      Grow();
      return Number(word);
    }
    texts_.Reserve(word.size() + kTermPadding);
    texts_.Append(reinterpret_cast<const uint8_t*>(word.data()), word.size());
    begins_.push_back(texts_.size());
    counts_.push_back({0, 0});
    *slot = {static_cast<uint32_t>(hash), static_cast<uint32_t>(size())};
    return slot->place - 1;
  }

  size_t size() const { return counts_.size(); }
  // kTermPadding bytes are readable behind it.
  std::string_view text(uint32_t number) const {
    return {reinterpret_cast<const char*>(texts_.data()) + begins_[number], begins_[number + 1] - begins_[number]};
  }
  DocumentCount& count(uint32_t number) { return counts_[number]; }
  const DocumentCount& count(uint32_t number) const { return counts_[number]; }

 private:
  static uint64_t Hash(std::string_view word) {
    return HashWord(reinterpret_cast<const uint8_t*>(word.data()), word.size());
  }

  void Grow() {
    slots_.assign(2 * slots_.size(), {0, 0});
    for (uint32_t number = 0; number < size(); ++number) {
      const uint64_t hash = Hash(text(number));
      *FindTermSlot(slots_.data(), slots_.size(), hash, [](uint32_t) { return false; }) = {static_cast<uint32_t>(hash),
                                                                                           number + 1};
    }
  }

  std::vector<TermSlot> slots_ = std::vector<TermSlot>(1024);
  std::vector<uint64_t> begins_ = {0};
  std::vector<DocumentCount> counts_;
  Buffer<uint8_t> texts_;
};

// Counts of pairs of words by their numbers: 16 bytes a slot, at most two thirds full.
class PairCounts {
 public:
  struct Slot {
    uint32_t first, second;
    DocumentCount count;  // of no documents: empty
  };

  void CountOnce(uint32_t first, uint32_t second, uint32_t document) {
    Slot* slot = Find(first, second);
    if (slot->count.documents == 0) {
      if (3 * (used_ + 1) > 2 * slots_.size()) {
        Grow();
        slot = Find(first, second);
      }
      ++used_;
      *slot = {first, second, {0, 0}};
    }
    slot->count.CountOnce(document);
  }

  const std::vector<Slot>& slots() const { return slots_; }

 private:
  Slot* Find(uint32_t first, uint32_t second) {
    uint64_t i = Reduce(HashTermPair(first, second), slots_.size());
    while (slots_[i].count.documents != 0 && (slots_[i].first != first || slots_[i].second != second)) {
      i = i + 1 == slots_.size() ? 0 : i + 1;
    }
    return &slots_[i];
  }

  void Grow() {
    std::vector<Slot> old(2 * slots_.size());
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.count.documents != 0) *Find(slot.first, slot.second) = slot;
    }
  }

  std::vector<Slot> slots_ = std::vector<Slot>(1024);
  size_t used_ = 0;
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_TERMS_TERM_COUNTS_H_
