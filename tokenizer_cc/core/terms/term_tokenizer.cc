#include "tokenizer_cc/core/terms/term_tokenizer.h"

#include <algorithm>
#include <utility>

namespace dpsr {

TermTokenizer::TermTokenizer(ModelBytes model)
    : model_(std::move(model)),
      sections_(model_),
      vocabulary_(sections_),
      speller_(sections_, vocabulary_),
      fingerprint_(FingerprintOf(model_)) {}

std::shared_ptr<const TermTokenizer> TermTokenizer::FromBytes(ModelBytes model, std::string* error) {
  *error = CheckTermModel(model);
  if (!error->empty()) return nullptr;
  return std::shared_ptr<const TermTokenizer>(new TermTokenizer(std::move(model)));
}

std::shared_ptr<const TermTokenizer> TermTokenizer::Load(const std::string& path, std::string* error) {
  ModelBytes model;
  *error = ModelBytes::Read(path, &model);
  return error->empty() ? FromBytes(std::move(model), error) : nullptr;
}

void TermTokenizer::FindTerms(std::string_view text, Workspace* workspace) const {
  TermAnalyzer& analyzer = workspace->analyzer_;
  analyzer.Analyze(text);
  const std::vector<Term>& terms = analyzer.terms();
  workspace->hashes_.Clear();
  workspace->hashes_.Reserve(terms.size());
  uint64_t* const hashes = workspace->hashes_.data();
  for (size_t i = 0; i < terms.size(); ++i) {
    hashes[i] = HashWord(analyzer.bytes(terms[i]), terms[i].length);
    vocabulary_.PrefetchWord(hashes[i]);
  }
  workspace->ids_.resize(terms.size());
  for (size_t i = 0; i < terms.size(); ++i) {
    workspace->ids_[i] = vocabulary_.FindWord(analyzer.view(terms[i]), hashes[i]);
  }
}

void TermTokenizer::Encode(std::string_view text, Workspace* workspace, Buffer<int32_t>* ids) const {
  FindTerms(text, workspace);
  const std::vector<int32_t>& found = workspace->ids_;
  ids->Reserve(2 * found.size());
  const auto append = [&](int32_t id) {
    *ids->end() = id;
    ids->Advance(id != kNoTerm);
  };
  for (const int32_t id : found) append(id);
  for (size_t i = 0; bigrams() && i + 1 < found.size(); ++i) {
    // The words of a bigram are in the vocabulary.
    if (found[i] != kNoTerm && found[i + 1] != kNoTerm) append(vocabulary_.FindBigram(found[i], found[i + 1]));
  }
}

bool TermTokenizer::CorrectDigit(size_t i, Workspace* workspace) const {
  const TermAnalyzer& analyzer = workspace->analyzer_;
  const std::vector<Term>& terms = analyzer.terms();
  if (i + 2 >= terms.size()) return false;
  const Term &before = terms[i], &digit = terms[i + 1], &after = terms[i + 2];
  if (!before.letters || digit.letters || digit.length != 1 || !after.letters) return false;
  if (digit.new_word || after.new_word) return false;
  const size_t size = workspace->terms_.size();
  speller_.CorrectBetween(analyzer.unstemmed(before), analyzer.unstemmed(after), &workspace->speller_,
                          &workspace->terms_);
  return workspace->terms_.size() != size;
}

size_t TermTokenizer::CorrectTerm(size_t i, Workspace* workspace) const {
  const TermAnalyzer& analyzer = workspace->analyzer_;
  const std::vector<Term>& terms = analyzer.terms();
  const auto join = [&](size_t first) {
    if (!terms[first].letters || !terms[first + 1].letters) return kNoTerm;
    return speller_.Join(analyzer.unstemmed(terms[first]), analyzer.unstemmed(terms[first + 1]), &workspace->speller_);
  };
  for (const size_t first : {i - 1, i}) {
    const int32_t joined = first < terms.size() - 1 ? join(first) : kNoTerm;  // before the first term is no term
    if (joined == kNoTerm) continue;
    workspace->terms_.push_back({joined, 1});
    return first + 2;
  }
  speller_.Correct(analyzer.unstemmed(terms[i]), &workspace->speller_, &workspace->terms_);
  return i + 1;
}

void TermTokenizer::EncodeQuery(std::string_view text, Workspace* workspace, Buffer<int32_t>* ids,
                                Buffer<float>* weights) const {
  FindTerms(text, workspace);
  const std::vector<Term>& terms = workspace->analyzer_.terms();
  std::vector<WeightedTerm>& found = workspace->terms_;
  std::vector<WeightedTerm>& readings = workspace->readings_;
  found.clear();
  readings.assign(terms.size(), {kNoTerm, 0});
  size_t corrected = 0;
  size_t behind = 0;  // the terms that a correction was made of
  for (size_t i = 0; i < terms.size(); ++i) {
    const size_t size = found.size();
    if (corrected < kMostCorrected && CorrectDigit(i, workspace)) {
      ++corrected;
      behind = i + 3;
    }
    if (workspace->ids_[i] != kNoTerm) {
      readings[i] = {workspace->ids_[i], 1};
      found.push_back(readings[i]);
      continue;
    }
    if (corrected < kMostCorrected && terms[i].letters && i >= behind) {
      ++corrected;
      behind = CorrectTerm(i, workspace);
    }
    if (found.size() != size) readings[i] = found[size];
  }
  for (size_t i = 0; bigrams() && i + 1 < terms.size(); ++i) {
    if (readings[i].id == kNoTerm || readings[i + 1].id == kNoTerm) continue;
    const int32_t id = vocabulary_.FindBigram(readings[i].id, readings[i + 1].id);
    if (id != kNoTerm) found.push_back({id, readings[i].weight * readings[i + 1].weight});
  }
  ids->Reserve(found.size());
  weights->Reserve(found.size());
  for (size_t i = 0; i < found.size(); ++i) {
    ids->end()[i] = found[i].id;
    weights->end()[i] = found[i].weight;
  }
  ids->Advance(found.size());
  weights->Advance(found.size());
}

}  // namespace dpsr
