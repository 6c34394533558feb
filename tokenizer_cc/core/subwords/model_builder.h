// Makes subwords.model.

#ifndef DPSR_TOKENIZER_CC_CORE_SUBWORDS_MODEL_BUILDER_H_
#define DPSR_TOKENIZER_CC_CORE_SUBWORDS_MODEL_BUILDER_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tokenizer_cc/core/model_bytes.h"
#include "tokenizer_cc/core/subwords/model_file.h"

namespace dpsr {

struct StepSpec {
  StepKind kind;
  uint32_t flags;
  std::string first, second;
};

struct AddedTokenSpec {
  AddedToken token;
  std::string text;  // as it is found: normalized already, if the token is kNormalized
};

// The whole configuration of a tokenizer; model_file.h says what the values mean.
struct SubwordSpec {
  SubwordKind kind = SubwordKind::kWordPiece;
  std::vector<std::string> names;                       // by id; empty: no such id
  std::vector<std::pair<std::string, int32_t>> pieces;  // what the model knows
  std::vector<uint8_t> continues;                       // by id
  std::vector<double> scores;                           // by id; Unigram
  std::vector<Merge> merges;                            // by rank; BPE
  std::vector<AddedTokenSpec> added;
  std::vector<StepSpec> steps;  // normalizers, then pre-tokenizers
  int32_t roles[kRoles] = {0, 0, 0, 0, 0};
  std::string prefix;
  uint32_t max_word_characters = 100;
  bool fuse_unknown = false;
  bool ignore_merges = false;
  double unknown_score = 0;
};

// Returns what is wrong with the configuration; empty if nothing.
std::string BuildSubwordModel(const SubwordSpec& spec, ModelBytes* model);

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_SUBWORDS_MODEL_BUILDER_H_
