// A double array: a trie of byte strings whose edges are found by one addition.

#ifndef DPSR_TOKENIZER_CC_CORE_SUBWORDS_TRIE_H_
#define DPSR_TOKENIZER_CC_CORE_SUBWORDS_TRIE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dpsr {

struct TrieUnit {
  uint32_t base;    // the child of byte b is base ^ b
  uint32_t parent;  // kNoParent: unused, or the root
  int32_t value;    // -1: no key ends here
};
static_assert(sizeof(TrieUnit) == 12);

// A view of units in a model file; constant time a byte. State 0 is the root.
class Trie {
 public:
  static constexpr uint32_t kNoParent = 0xFFFFFFFF;

  Trie() = default;
  Trie(const TrieUnit* units, size_t size) : units_(units), size_(size) {}

  bool empty() const { return size_ == 0; }
  // The child of a state, 0 if it has none.
  uint32_t Child(uint32_t state, uint8_t byte) const {
    const uint32_t child = units_[state].base ^ byte;
    return units_[child].parent == state ? child : 0;
  }
  int32_t value(uint32_t state) const { return units_[state].value; }
  // The state behind a whole text, 0 if no key begins with it.
  uint32_t Walk(std::string_view text, uint32_t state = 0) const;
  // The value of the longest key that the text begins with, and the key's length; {-1, 0} if there is none.
  std::pair<int32_t, size_t> LongestPrefix(const uint8_t* p, const uint8_t* end) const;

  // Whether steps stay inside, and values are below `values`.
  bool IsSound(uint64_t values) const;
  // The units of a trie; of equal keys the last one counts, empty keys do not.
  static std::vector<TrieUnit> Build(std::vector<std::pair<std::string, int32_t>> keys);

 private:
  const TrieUnit* units_ = nullptr;
  size_t size_ = 0;
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_SUBWORDS_TRIE_H_
