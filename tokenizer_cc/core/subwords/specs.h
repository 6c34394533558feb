// Small models for tests and the fuzzer.

#ifndef DPSR_TOKENIZER_CC_CORE_SUBWORDS_SPECS_H_
#define DPSR_TOKENIZER_CC_CORE_SUBWORDS_SPECS_H_

#include <string>
#include <utility>
#include <vector>

#include "tokenizer_cc/core/subwords/model_builder.h"

namespace dpsr {

inline void NamePieces(std::vector<std::string> names, SubwordSpec* spec) {
  spec->names = std::move(names);
  for (size_t id = 0; id < spec->names.size(); ++id) {
    spec->pieces.emplace_back(spec->names[id], static_cast<int32_t>(id));
    const bool special = id < kRoles;
    if (special)
      spec->added.push_back({{static_cast<int32_t>(id), id == kMask ? uint32_t{kStripBefore} : 0}, spec->names[id]});
    if (special) spec->roles[id] = static_cast<int32_t>(id);
    spec->continues.push_back(!special && spec->names[id].compare(0, 3, "▁") != 0);
  }
}

// BERT's pipeline.
inline SubwordSpec WordPieceSpec() {
  SubwordSpec spec;
  spec.kind = SubwordKind::kWordPiece;
  spec.prefix = "##";
  spec.max_word_characters = 10;
  spec.steps = {{StepKind::kBert, kCleanText | kHandleChinese | kBertStripAccents | kBertLowercase, "", ""},
                {StepKind::kBertWords, 0, "", ""}};
  NamePieces({"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "steel", "ste", "##el", "##s", "sink", "-", "手", "cafe",
              "s", "##t"},
             &spec);
  return spec;
}

// A pipeline of the XLM-R family.
inline SubwordSpec UnigramSpec() {
  SubwordSpec spec;
  spec.kind = SubwordKind::kUnigram;
  spec.steps = {{StepKind::kForm, kCompatibility | kComposed, "", ""},
                {StepKind::kReplaceSpaces, 0, "", " "},
                {StepKind::kWhitespaceSplit, 0, "", ""},
                {StepKind::kMetaspace, kPrependAlways | kSplitWords, "▁", ""}};
  NamePieces({"<pad>", "<unk>", "<s>", "</s>", "<mask>", "▁", "a", "b", "ab", "▁ab", "abb", "▁a", "bb", "手机"}, &spec);
  spec.scores = {0, 0, 0, 0, 0, -2, -3, -3, -5, -4, -4.5, -3, -4, -6};
  spec.unknown_score = -16;
  return spec;
}

inline SubwordSpec BpeSpec() {
  SubwordSpec spec;
  spec.kind = SubwordKind::kBpe;
  spec.steps = {{StepKind::kLowercase, 0, "", ""}, {StepKind::kWhitespace, 0, "", ""}};
  NamePieces({"<pad>", "<unk>", "<s>", "</s>", "<mask>", "l", "o", "w", "e", "r", "lo", "low", "er"}, &spec);
  spec.merges = {{5, 6, 0, 10}, {8, 9, 1, 12}, {10, 7, 2, 11}};
  spec.fuse_unknown = true;
  return spec;
}

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_SUBWORDS_SPECS_H_
