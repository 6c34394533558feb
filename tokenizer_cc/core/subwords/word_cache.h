// The ids of words that were met before.

#ifndef DPSR_TOKENIZER_CC_CORE_SUBWORDS_WORD_CACHE_H_
#define DPSR_TOKENIZER_CC_CORE_SUBWORDS_WORD_CACHE_H_

#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>

#include "tokenizer_cc/core/buffer.h"
#include "tokenizer_cc/core/hashing.h"

namespace dpsr {

// A word has one place, and the word that came last has it. Words of different owners may share a cache. Short words of
// few pieces are kept, as texts mostly are made of; memory is fixed, and taken at the first word.
class WordCache {
 public:
  // A number that no other owner has.
  static uint64_t NewOwner() {
    static std::atomic<uint64_t> owners{0};
    return ++owners;
  }

  // Appends the ids of a word: those of the cache, or what `encode` appends.
  template <class Encoder>
  void Encode(uint64_t owner, std::string_view word, Buffer<int32_t>* ids, Encoder encode) {
    if (word.size() > kMostBytes) return encode();
    if (slots_ == nullptr) slots_.reset(new Slot[kSlots]());
    uint64_t key[3] = {};
    std::memcpy(key, word.data(), word.size());
    const uint64_t tag = owner << 8 | word.size();
    const uint64_t hash = Mix(Mix(Mix(key[0] ^ tag) ^ key[1]) ^ key[2]);
    Slot& slot = slots_[hash % kSlots];
    if (slot.tag == tag && std::memcmp(slot.key, key, sizeof(key)) == 0) {
      return ids->Append(slot.ids, slot.count);
    }
    const size_t before = ids->size();
    encode();
    const size_t count = ids->size() - before;
    if (count > kMostIds) return;
    slot.tag = tag;
    slot.count = static_cast<uint32_t>(count);
    std::memcpy(slot.key, key, sizeof(key));
    std::memcpy(slot.ids, ids->data() + before, count * sizeof(int32_t));
  }

 private:
  static constexpr size_t kSlots = 1 << 14;
  static constexpr size_t kMostBytes = 24;
  static constexpr size_t kMostIds = 7;

  struct Slot {
    uint64_t tag;  // owner and length; 0: empty
    uint64_t key[kMostBytes / 8];
    uint32_t count;
    int32_t ids[kMostIds];
  };
  static_assert(sizeof(Slot) == 64);

  std::unique_ptr<Slot[]> slots_;
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_SUBWORDS_WORD_CACHE_H_
