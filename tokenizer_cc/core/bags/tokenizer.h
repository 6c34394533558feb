// Text -> token ids.
//
//   std::string error;
//   auto tokenizer = dpsr::Tokenizer::Load("tokenizer.model", &error);   // null: `error` says why
//   dpsr::Tokenizer::Workspace workspace;                                // one for each thread
//   dpsr::Buffer<int32_t> ids;
//   tokenizer->Encode("stainless-steel sink 33x22", &workspace, &ids);   // appends

#ifndef DPSR_TOKENIZER_CC_CORE_BAGS_TOKENIZER_H_
#define DPSR_TOKENIZER_CC_CORE_BAGS_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer_cc/core/bags/model_file.h"
#include "tokenizer_cc/core/bags/vocabulary.h"
#include "tokenizer_cc/core/buffer.h"
#include "tokenizer_cc/core/text/segmenter.h"

namespace dpsr {

struct Token {
  std::string text;  // "sink", "steel sink", "#si"
  Kind kind;
  int32_t id;
};

// The ids of a text are, in this order, those of its words, of its bigrams (every word with the next one), and of the
// trigrams of its Latin words (each run of three code points of "#word#"). Id 0 is never emitted; 1..V is the
// vocabulary; V+1..V+B are the buckets that everything else is hashed into.
//
// Immutable and safe to share between threads, given a Workspace each. Encode is linear in the text.
class Tokenizer {
 public:
  // Working memory that Encode reuses.
  class Workspace {
   private:
    friend class Tokenizer;
    Segmenter segmenter_;
    Buffer<uint64_t> hashes_;
    Buffer<uint64_t> bigrams_;
  };

  // Returns null, and what is wrong and what to do in `error`, when the bytes cannot be used as a model.
  static std::shared_ptr<const Tokenizer> FromBytes(ModelBytes model, std::string* error);
  static std::shared_ptr<const Tokenizer> Load(const std::string& path, std::string* error);

  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Appends the ids of a text, which may be any bytes.
  void Encode(std::string_view text, Workspace* workspace, Buffer<int32_t>* ids) const;
  // The tokens behind the ids of Encode, one by one.
  std::vector<Token> Tokens(std::string_view text) const;

  uint32_t vocabulary_size() const { return vocabulary_.size(); }
  uint32_t oov_buckets() const { return header().oov_buckets; }
  // Rows of an embedding table: padding, vocabulary and buckets.
  int64_t num_ids() const { return int64_t{1} + vocabulary_size() + oov_buckets(); }
  uint64_t num_documents() const { return header().num_documents; }
  // int64 [vocabulary_size], by id - 1; lives as long as the tokenizer.
  const int64_t* document_frequencies() const { return sections_.document_frequencies; }
  // uint8 [vocabulary_size], the Kind by id - 1; lives as long as the tokenizer.
  const uint8_t* kinds() const { return sections_.kinds; }
  const ModelHeader& header() const { return *sections_.header; }
  const Vocabulary& vocabulary() const { return vocabulary_; }
  // 32 hexadecimal digits that are equal for equal model files.
  const std::string& fingerprint() const { return fingerprint_; }
  // The content of the model file.
  std::string_view bytes() const { return model_.view(); }

 private:
  explicit Tokenizer(ModelBytes model);

  int32_t BucketOf(uint64_t hash) const {
    return static_cast<int32_t>(vocabulary_size() + 1 + Reduce(hash, oov_buckets()));
  }
  int32_t TrigramId(uint64_t packed) const;
  // These write at `out` and return its new end.
  int32_t* EncodeWords(Workspace* workspace, int32_t* out) const;
  int32_t* EncodeTrigrams(const Segmenter& segmenter, const Word& word, int32_t* out) const;
  void FillAsciiTrigrams();

  ModelBytes model_;
  ModelSections sections_;
  Vocabulary vocabulary_;
  std::string fingerprint_;
  // The id of every trigram of the characters of ASCII words: the commonest lookup is one read of a table that stays in
  // the cache.
  std::vector<int32_t> ascii_trigrams_;
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_BAGS_TOKENIZER_H_
