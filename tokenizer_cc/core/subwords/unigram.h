// Unigram language model: the likeliest pieces of a word (Kudo, "Subword Regularization", 2018), by Viterbi's
// algorithm.

#ifndef DPSR_TOKENIZER_CC_CORE_SUBWORDS_UNIGRAM_H_
#define DPSR_TOKENIZER_CC_CORE_SUBWORDS_UNIGRAM_H_

#include <cstdint>
#include <string_view>

#include "tokenizer_cc/core/buffer.h"
#include "tokenizer_cc/core/subwords/model_file.h"

namespace dpsr {

class Unigram {
 public:
  // The best path to an end, by place.
  struct Node {
    double score;
    int32_t id;
    uint32_t bytes;  // of the last piece; 0: no path yet
  };

  struct Workspace {
    Buffer<Node> nodes;
  };

  Unigram() = default;
  explicit Unigram(const SubwordSections& model)
      : pieces_(model.trie(kPieces)),
        scores_(model.data<double>(kScores)),
        unknown_(model.header().roles[kUnk]),
        unknown_score_(model.header().unknown_score) {}

  // Appends the pieces of a word of well-formed UTF-8. Neighbouring unknown characters are one id.
  void Encode(std::string_view word, Workspace* workspace, Buffer<int32_t>* ids) const;

 private:
  void FindPaths(std::string_view word, Node* nodes) const;
  // The id of neighbouring unknown characters: a piece, if together they are one after all.
  int32_t FusedId(std::string_view text) const;

  Trie pieces_;
  const double* scores_ = nullptr;
  int32_t unknown_ = 0;
  double unknown_score_ = 0;
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_SUBWORDS_UNIGRAM_H_
