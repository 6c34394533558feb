// Text -> ids of the terms of a catalogue.
//
//   std::string error;
//   auto tokenizer = dpsr::TermTokenizer::Load("terms.model", &error);      // null: `error` says why
//   dpsr::TermTokenizer::Workspace workspace;                               // one for each thread
//   dpsr::Buffer<int32_t> ids;
//   tokenizer->Encode("stainless-steel sinks", &workspace, &ids);           // appends
//   dpsr::Buffer<float> weights;
//   tokenizer->EncodeQuery("stainles sinks", &workspace, &ids, &weights);   // appends to both

#ifndef DPSR_TOKENIZER_CC_CORE_TERMS_TERM_TOKENIZER_H_
#define DPSR_TOKENIZER_CC_CORE_TERMS_TERM_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer_cc/core/buffer.h"
#include "tokenizer_cc/core/terms/analyzer.h"
#include "tokenizer_cc/core/terms/model_file.h"
#include "tokenizer_cc/core/terms/speller.h"
#include "tokenizer_cc/core/terms/vocabulary.h"

namespace dpsr {

// Ids are 0 .. num_terms - 1, by descending document frequency. Immutable and safe to share between threads, given a
// Workspace each. Encode is linear in the text.
class TermTokenizer {
 public:
  // Unknown words of one query that are looked for in the vocabulary.
  static constexpr size_t kMostCorrected = 8;

  // Working memory, reused.
  class Workspace {
   private:
    friend class TermTokenizer;
    TermAnalyzer analyzer_;
    Speller::Workspace speller_;
    Buffer<uint64_t> hashes_;
    std::vector<int32_t> ids_;            // of the terms
    std::vector<WeightedTerm> readings_;  // what each term most likely is
    std::vector<WeightedTerm> terms_;     // of the query
  };

  // Returns null, and what is wrong and what to do in `error`, when the bytes cannot be used as a model.
  static std::shared_ptr<const TermTokenizer> FromBytes(ModelBytes model, std::string* error);
  static std::shared_ptr<const TermTokenizer> Load(const std::string& path, std::string* error);

  TermTokenizer(const TermTokenizer&) = delete;
  TermTokenizer& operator=(const TermTokenizer&) = delete;

  // Appends the ids of a text's terms, in the order of the text, as often as they occur; then, where the vocabulary has
  // bigrams, those of neighbouring terms. Terms that the vocabulary lacks are left out.
  void Encode(std::string_view text, Workspace* workspace, Buffer<int32_t>* ids) const;

  // As Encode, with a weight in (0, 1] for each id: 1 for a term of the text. For a word of letters that the vocabulary
  // lacks, the words it may stand for (Speller); at most kMostCorrected of a query. So also where a space or a digit
  // came into a word: "door knob" for "doorknob", "d3ck" for "deck". A bigram of such a word has its weight.
  void EncodeQuery(std::string_view text, Workspace* workspace, Buffer<int32_t>* ids, Buffer<float>* weights) const;

  int32_t num_terms() const { return static_cast<int32_t>(sections_.header().num_terms); }
  uint64_t num_documents() const { return sections_.header().num_documents; }
  bool bigrams() const { return sections_.header().bigrams != 0; }
  // int32 [num_terms], by id; lives as long as the tokenizer.
  const int32_t* document_frequencies() const { return sections_.data<int32_t>(kTermFrequencies); }
  // The text of an id below num_terms: a word, or two words and a space between them.
  std::string_view text(int32_t id) const { return vocabulary_.text(id); }
  // The id of a word, behind which 8 bytes are readable; kNoTerm for none.
  int32_t FindWord(std::string_view word) const { return vocabulary_.FindWord(word); }
  // 32 hexadecimal digits that are equal for equal model files.
  const std::string& fingerprint() const { return fingerprint_; }
  // The content of the model file.
  std::string_view bytes() const { return model_.view(); }

 private:
  explicit TermTokenizer(ModelBytes model);

  // The ids of the terms of a text, kNoTerm for what is unknown.
  void FindTerms(std::string_view text, Workspace* workspace) const;
  // Appends what the unknown term number `i` may stand for; returns the number behind the terms that this was made of.
  size_t CorrectTerm(size_t i, Workspace* workspace) const;
  // Appends the words that the terms from `i` on make where one digit came into a word; whether there are any.
  bool CorrectDigit(size_t i, Workspace* workspace) const;

  ModelBytes model_;
  TermSections sections_;
  TermVocabulary vocabulary_;
  Speller speller_;
  std::string fingerprint_;
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_TERMS_TERM_TOKENIZER_H_
