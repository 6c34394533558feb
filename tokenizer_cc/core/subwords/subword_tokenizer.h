// Text -> subword ids, the same as those of Hugging Face `tokenizers`.
//
//   std::string error;
//   auto tokenizer = dpsr::SubwordTokenizer::Load("subwords.model", &error);   // null: `error` says why
//   dpsr::SubwordTokenizer::Workspace workspace;                               // one for each thread
//   dpsr::Buffer<int32_t> ids;
//   tokenizer->Encode("stainless-steel sink", &workspace, &ids);               // appends

#ifndef DPSR_TOKENIZER_CC_CORE_SUBWORDS_SUBWORD_TOKENIZER_H_
#define DPSR_TOKENIZER_CC_CORE_SUBWORDS_SUBWORD_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "tokenizer_cc/core/buffer.h"
#include "tokenizer_cc/core/subwords/added_tokens.h"
#include "tokenizer_cc/core/subwords/bpe.h"
#include "tokenizer_cc/core/subwords/model_file.h"
#include "tokenizer_cc/core/subwords/normalizer.h"
#include "tokenizer_cc/core/subwords/pre_tokenizer.h"
#include "tokenizer_cc/core/subwords/unigram.h"
#include "tokenizer_cc/core/subwords/word_cache.h"
#include "tokenizer_cc/core/subwords/word_piece.h"

namespace dpsr {

// The steps are those of the library: added tokens are cut out of the text, what is between them is normalized, added
// tokens that want it are cut out of that, the rest is cut into words, and each word is encoded by the model. No
// special token is put before or behind.
//
// Immutable and safe to share between threads, given a Workspace each. Encode is linear in the text, but for BPE's
// n log n in a word, and the longest piece of the vocabulary.
class SubwordTokenizer {
 public:
  // Working memory that Encode reuses, of any number of tokenizers.
  class Workspace {
   private:
    friend class SubwordTokenizer;
    Buffer<uint8_t> repaired_;
    SubwordNormalizer::Workspace normalizer_;
    PreTokenizer::Workspace pre_tokenizer_;
    Unigram::Workspace unigram_;
    Bpe::Workspace bpe_;
    WordCache cache_;
  };

  // Returns null, and what is wrong and what to do in `error`, when the bytes cannot be used as a model.
  static std::shared_ptr<const SubwordTokenizer> FromBytes(ModelBytes model, std::string* error);
  static std::shared_ptr<const SubwordTokenizer> Load(const std::string& path, std::string* error);

  SubwordTokenizer(const SubwordTokenizer&) = delete;
  SubwordTokenizer& operator=(const SubwordTokenizer&) = delete;

  // Appends the ids of a text, which may be any bytes.
  void Encode(std::string_view text, Workspace* workspace, Buffer<int32_t>* ids) const;
  // Appends a text as the normalizer leaves it; added tokens mean nothing here.
  void Normalize(std::string_view text, Workspace* workspace, Buffer<uint8_t>* out) const;

  SubwordKind kind() const { return sections_.header().kind; }
  int64_t num_ids() const { return sections_.header().num_ids; }
  int32_t role(SubwordRole role) const { return sections_.header().roles[role]; }
  // The piece or added token of an id below num_ids; empty where there is none.
  std::string_view name(int64_t id) const;
  // uint8 [num_ids], 1: goes on with the word before it; lives as long as the tokenizer.
  const uint8_t* continues_word() const { return sections_.data<uint8_t>(kContinues); }
  // 32 hexadecimal digits that are equal for equal model files.
  const std::string& fingerprint() const { return fingerprint_; }
  // The content of the model file.
  std::string_view bytes() const { return model_.view(); }

 private:
  explicit SubwordTokenizer(ModelBytes model);

  // Well-formed UTF-8 of any bytes; the text itself, or in the workspace.
  static std::string_view Repaired(std::string_view text, Workspace* workspace);
  void EncodeWords(std::string_view normalized, Workspace* workspace, Buffer<int32_t>* ids) const;

  ModelBytes model_;
  SubwordSections sections_;
  AddedTokens raw_tokens_, normalized_tokens_;
  SubwordNormalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  WordPiece word_piece_;
  Unigram unigram_;
  Bpe bpe_;
  std::string fingerprint_;
  const uint64_t cache_owner_;
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_SUBWORDS_SUBWORD_TOKENIZER_H_
