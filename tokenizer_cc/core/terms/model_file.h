// terms.model: the bytes of a term tokenizer, on disk as in memory.

#ifndef DPSR_TOKENIZER_CC_CORE_TERMS_MODEL_FILE_H_
#define DPSR_TOKENIZER_CC_CORE_TERMS_MODEL_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "tokenizer_cc/core/hashing.h"
#include "tokenizer_cc/core/model_bytes.h"

namespace dpsr {

// The sections, in this order, each padded to a multiple of 8 bytes:
enum TermSection {
  kTermFrequencies = 0,   // int32 [num_terms], documents that have the term
  kTermTextBegin = 1,     // uint32 [num_terms + 1], where the text of an id begins
  kTermTexts = 2,         // uint8, words, and bigrams with a space between their words; kTermPadding zeros at the end
  kTermSlots = 3,         // TermSlot, the lookup table of words and bigrams
  kTermLetters = 4,       // uint32, code points that spelling corrections put in, the most frequent ones first
  kTermPostingBegin = 5,  // uint32 [buckets + 1], where the postings of a trigram's bucket begin
  kTermPostings = 6,      // int32, ids of the words with a trigram of the bucket, ascending
  kTermSections = 7,
};
inline constexpr size_t kTermPadding = 8;

struct TermHeader {
  FileHeader file;
  char unicode_version[16];
  uint32_t rules_version;
  uint32_t bigrams;  // whether neighbouring words make terms
  uint32_t num_terms;
  uint32_t padding;
  uint64_t num_documents;
  uint64_t section_bytes[kTermSections];
};
static_assert(sizeof(TermHeader) == 136);

inline constexpr FileKind kTermFile = {
    {'D', 'P', 'S', 'R', 'T', 'R', 'M', '\n'},        1, sizeof(TermHeader), "term model", "TermTokenizer.save",
    "give the terms.model of a dataset or a servable"};
// Counts changes of what a term is and of the hashes that place it.
inline constexpr uint32_t kTermRules = 1;

// Open addressing with linear probing: a term starts at Reduce(hash, slots). The text decides.
struct TermSlot {
  uint32_t tag;    // the low bits of the hash
  uint32_t place;  // id + 1; 0: empty
};
static_assert(sizeof(TermSlot) == 8);

// A term's slot, or the empty one where it belongs. `is_it` compares the term of an id; one slot at least is empty.
template <class Slot, class IsIt>
Slot* FindTermSlot(Slot* slots, size_t capacity, uint64_t hash, IsIt is_it) {
  for (uint64_t i = Reduce(hash, capacity);; i = i + 1 == capacity ? 0 : i + 1) {
    if (slots[i].place == 0) return slots + i;
    if (slots[i].tag == static_cast<uint32_t>(hash) && is_it(slots[i].place - 1)) return slots + i;
  }
}

inline uint64_t HashTermPair(uint32_t first, uint32_t second) {
  return Mix((static_cast<uint64_t>(first) << 32 | second) ^ kBigramSeed);
}

// Pointers into a model.
class TermSections {
 public:
  explicit TermSections(const ModelBytes& model);

  const TermHeader& header() const { return *header_; }
  template <class T>
  const T* data(TermSection section) const {
    return reinterpret_cast<const T*>(begins_[section]);
  }
  template <class T>
  size_t size(TermSection section) const {
    return header_->section_bytes[section] / sizeof(T);
  }

 private:
  const TermHeader* header_;
  const uint8_t* begins_[kTermSections];
};

// The size of a file with this header.
uint64_t TermFileBytes(const TermHeader& header);
// Checks everything that lookups rely on. Returns what is wrong and what to do; empty if nothing.
std::string CheckTermModel(const ModelBytes& model);

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_TERMS_MODEL_FILE_H_
