#include "tokenizer_cc/core/terms/vocabulary_builder.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "tokenizer_cc/core/terms/vocabulary.h"

namespace dpsr {
namespace {

// The numbers of words in the order of their bytes. Most comparisons end with the first eight bytes, as one number.
std::vector<uint32_t> ByText(const WordCounts& words) {
  struct Key {
    uint64_t begin;
    uint32_t number;
  };
  std::vector<Key> keys(words.size());
  for (uint32_t number = 0; number < keys.size(); ++number) {
    const std::string_view text = words.text(number);
    const uint64_t begin = LoadPartial(reinterpret_cast<const uint8_t*>(text.data()), text.size());
    keys[number] = {__builtin_bswap64(begin), number};
  }
  std::sort(keys.begin(), keys.end(), [&](const Key& a, const Key& b) {
    return a.begin != b.begin ? a.begin < b.begin : words.text(a.number) < words.text(b.number);
  });
  std::vector<uint32_t> numbers;
  numbers.reserve(keys.size());
  for (const Key& key : keys) numbers.push_back(key.number);
  return numbers;
}

// A term that gets an id. Words are given by their ranks in the order of texts: a space sorts before all that words
// hold, so that ranks order bigrams too.
struct Candidate {
  uint32_t documents;
  uint32_t first, second;  // second: rank + 1, or 0 for a word

  bool operator<(const Candidate& other) const {
    return std::tie(other.documents, first, second) < std::tie(documents, other.first, other.second);
  }
};

}  // namespace

void TermVocabularyBuilder::Add(const std::vector<std::vector<std::string_view>>& fields) {
  for (size_t i = 0; !fields.empty() && i < fields[0].size(); ++i) {
    const auto document = static_cast<uint32_t>(++num_documents_);
    for (const std::vector<std::string_view>& texts : fields) Count(texts[i], document);
  }
}

void TermVocabularyBuilder::Add(const TermTokenizer& tokenizer, const int32_t* counts, uint64_t num_documents) {
  for (int32_t id = 0; id < tokenizer.num_terms(); ++id) {
    if (counts[id] > 0) words_.count(words_.Number(tokenizer.text(id))).documents += static_cast<uint32_t>(counts[id]);
  }
  num_documents_ += num_documents;
}

void TermVocabularyBuilder::Count(std::string_view text, uint32_t document) {
  analyzer_.Analyze(text);
  uint32_t previous = 0;
  bool first = true;
  for (const Term& term : analyzer_.terms()) {
    const uint32_t number = words_.Number(analyzer_.view(term));
    words_.count(number).CountOnce(document);
    if (config_.bigrams && !first) pairs_.CountOnce(previous, number, document);
    previous = number;
    first = false;
  }
}

std::string TermVocabularyBuilder::Build(ModelBytes* model) const {
  const std::vector<uint32_t> by_text = ByText(words_);
  std::vector<uint32_t> rank(by_text.size());
  for (uint32_t i = 0; i < by_text.size(); ++i) rank[by_text[i]] = i;

  const auto is_kept = [&](uint32_t number) { return words_.count(number).documents >= config_.min_count; };
  std::vector<Candidate> candidates;
  for (uint32_t number = 0; number < words_.size(); ++number) {
    if (is_kept(number)) candidates.push_back({words_.count(number).documents, rank[number], 0});
  }
  for (const PairCounts::Slot& pair : pairs_.slots()) {
    if (pair.count.documents < std::max(config_.min_bigram_count, 1u)) continue;
    if (!is_kept(pair.first) || !is_kept(pair.second)) continue;
    candidates.push_back({pair.count.documents, rank[pair.first], rank[pair.second] + 1});
  }
  std::sort(candidates.begin(), candidates.end());

  std::vector<uint32_t>& ids = rank;  // by rank from here on
  for (uint32_t id = 0; id < candidates.size(); ++id) {
    if (candidates[id].second == 0) ids[candidates[id].first] = id;
  }
  std::vector<TermEntry> entries;
  entries.reserve(candidates.size());
  for (const Candidate& candidate : candidates) {
    if (candidate.second == 0) {
      entries.push_back({words_.text(by_text[candidate.first]), 0, 0, candidate.documents});
    } else {
      entries.push_back({{}, ids[candidate.first], ids[candidate.second - 1], candidate.documents});
    }
  }
  return WriteTermModel(config_.bigrams, entries, num_documents_, model);
}

}  // namespace dpsr
