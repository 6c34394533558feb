// Tokens -> ids, over the bytes of a model.

#ifndef DPSR_TOKENIZER_CC_CORE_BAGS_VOCABULARY_H_
#define DPSR_TOKENIZER_CC_CORE_BAGS_VOCABULARY_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer_cc/core/bags/model_file.h"
#include "tokenizer_cc/core/hashing.h"

namespace dpsr {

struct VocabularyEntry {
  std::string text;  // a word; two words and a space between them; or three code points
  Kind kind;
  int64_t document_frequency;
};

// Lays out a model: entry i gets id i + 1. The words of a bigram must be entries themselves. Returns what is wrong with
// the config or the entries; empty if nothing.
std::string WriteModel(const TokenizerConfig& config, const std::vector<VocabularyEntry>& entries,
                       uint64_t num_documents, ModelBytes* model);

// A view of a checked model, which must outlive it. Lookups return 0 for what is not in the vocabulary; a Prefetch some
// time ahead of its Find hides the latency of memory.
class Vocabulary {
 public:
  Vocabulary() = default;
  explicit Vocabulary(const ModelSections& model) : model_(model) {}

  uint32_t size() const { return static_cast<uint32_t>(model_.header->vocabulary_size); }
  std::string_view text(uint32_t id) const {
    const uint64_t begin = model_.text_begin[id - 1];
    return {reinterpret_cast<const char*>(model_.texts) + begin, model_.text_begin[id] - begin};
  }
  Kind kind(uint32_t id) const { return static_cast<Kind>(model_.kinds[id - 1]); }
  int64_t document_frequency(uint32_t id) const { return model_.document_frequencies[id - 1]; }

  // `hash` is HashWord of the word, behind which 8 bytes must be readable.
  void PrefetchWord(size_t length, uint64_t hash) const { Prefetch(length <= 8 ? kShortWords : kLongWords, hash); }
  uint32_t FindWord(const uint8_t* bytes, size_t length, uint64_t hash) const {
    return length <= 8 ? Find(kShortWords, LoadPartial(bytes, length), hash) : FindLongWord(bytes, length, hash);
  }

  static uint64_t BigramKey(uint32_t first, uint32_t second) { return static_cast<uint64_t>(first) << 32 | second; }
  void PrefetchBigram(uint64_t key) const { Prefetch(kBigrams, BigramSlotHash(key)); }
  uint32_t FindBigram(uint64_t key) const { return Find(kBigrams, key, BigramSlotHash(key)); }

  uint32_t FindTrigram(uint64_t packed) const { return Find(kTrigrams, packed, HashTrigram(packed)); }

  static uint64_t BigramSlotHash(uint64_t key) { return Mix(key ^ kBigramSeed); }

 private:
  void Prefetch(Table table, uint64_t hash) const {
    __builtin_prefetch(model_.tables[table] + Reduce(hash, model_.header->table_capacity[table]));
  }

  uint32_t Find(Table table, uint64_t key, uint64_t hash) const {
    const TableSlot* const slots = model_.tables[table];
    const uint64_t capacity = model_.header->table_capacity[table];
    for (uint64_t i = Reduce(hash, capacity);; i = i + 1 == capacity ? 0 : i + 1) {
      if (slots[i].key == key || slots[i].id == 0) return slots[i].id;
    }
  }

  uint32_t FindLongWord(const uint8_t* bytes, size_t length, uint64_t hash) const {
    const TableSlot* const slots = model_.tables[kLongWords];
    const uint64_t capacity = model_.header->table_capacity[kLongWords];
    for (uint64_t i = Reduce(hash, capacity); slots[i].id != 0; i = i + 1 == capacity ? 0 : i + 1) {
      if (slots[i].key != hash) continue;
      const std::string_view found = text(slots[i].id);
      if (found.size() == length && std::memcmp(found.data(), bytes, length) == 0) return slots[i].id;
    }
    return 0;
  }

  ModelSections model_{};
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_BAGS_VOCABULARY_H_
