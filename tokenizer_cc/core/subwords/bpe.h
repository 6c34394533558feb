// Byte-pair encoding (Sennrich et al., 2016): the characters of a word, joined by merges, the earliest learnt first.

#ifndef DPSR_TOKENIZER_CC_CORE_SUBWORDS_BPE_H_
#define DPSR_TOKENIZER_CC_CORE_SUBWORDS_BPE_H_

#include <cstdint>
#include <string_view>

#include "tokenizer_cc/core/buffer.h"
#include "tokenizer_cc/core/hashing.h"
#include "tokenizer_cc/core/subwords/model_file.h"

namespace dpsr {

class Bpe {
 public:
  // A piece in the list of a word's pieces; 0 bytes: joined to the one before.
  struct Symbol {
    int32_t id;
    uint32_t bytes;
    uint32_t previous, next;
  };
  // A merge that may be done.
  struct Candidate {
    uint32_t rank;
    uint32_t left;  // the place of its left symbol
    uint32_t merged;
  };

  struct Workspace {
    Buffer<Symbol> symbols;
    Buffer<Candidate> candidates;
  };

  Bpe() = default;
  explicit Bpe(const SubwordSections& model);

  // Where the search for a pair begins in a table of merges.
  static size_t SlotOf(uint32_t left, uint32_t right, size_t slots) {
    return static_cast<size_t>(Reduce(Mix(uint64_t{left} << 32 | right), slots));
  }

  // Appends the pieces of a word of well-formed UTF-8.
  void Encode(std::string_view word, Workspace* workspace, Buffer<int32_t>* ids) const;

 private:
  const Merge* FindMerge(int32_t left, int32_t right) const;
  void Characters(std::string_view word, Buffer<Symbol>* symbols) const;
  void Push(const Symbol* symbols, uint32_t left, Buffer<Candidate>* candidates) const;
  void MergeAll(Workspace* workspace) const;

  Trie pieces_;
  uint32_t inside_ = 0;  // behind the prefix of pieces inside a word
  bool has_inside_ = false;
  const Merge* merges_ = nullptr;
  size_t slots_ = 0;
  int32_t unknown_ = 0;
  bool fuse_unknown_ = false, ignore_merges_ = false;
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_SUBWORDS_BPE_H_
