#include "tokenizer_cc/core/terms/speller.h"

#include <algorithm>
#include <cmath>

#include "tokenizer_cc/core/terms/analyzer.h"
#include "tokenizer_cc/core/terms/edit_distance.h"
#include "tokenizer_cc/core/terms/trigram_index.h"
#include "tokenizer_cc/core/text/utf8.h"

namespace dpsr {
namespace {

constexpr uint64_t kDocumentsPerFrequent = 10'000;

// Where the code points of a word begin, and where the last one ends.
struct Letters {
  size_t count = 0;
  uint32_t code_points[kLongestEdited];
  size_t begin[kLongestEdited + 1];
};

// The letters of a word; none where it has more than kLongest.
Letters LettersOf(std::string_view word) {
  Letters letters;
  size_t i = 0;
  while (i < word.size()) {
    if (letters.count == Speller::kLongest) return {};
    const auto* const p = reinterpret_cast<const uint8_t*>(word.data());
    const Decoded decoded = DecodeReplacing(p + i, p + word.size());
    letters.code_points[letters.count] = decoded.code_point;
    letters.begin[letters.count++] = i;
    i += decoded.bytes;
  }
  letters.begin[letters.count] = word.size();
  return letters;
}

}  // namespace

Speller::Speller(const TermSections& sections, const TermVocabulary& vocabulary)
    : vocabulary_(&vocabulary),
      posting_begin_(sections.data<uint32_t>(kTermPostingBegin)),
      postings_(sections.data<int32_t>(kTermPostings)),
      buckets_(sections.size<uint32_t>(kTermPostingBegin) - 1),
      frequent_(static_cast<int32_t>(std::max<uint64_t>(1, sections.header().num_documents / kDocumentsPerFrequent))) {
  const auto* const code_points = sections.data<uint32_t>(kTermLetters);
  for (size_t i = 0; i < sections.size<uint32_t>(kTermLetters); ++i) {
    uint8_t bytes[4];
    const uint32_t size = EncodeUtf8(code_points[i], bytes);
    letters_.emplace_back(reinterpret_cast<const char*>(bytes), size);
  }
}

int32_t Speller::Lookup(std::string_view before, std::string_view between, std::string_view after,
                        Workspace* workspace) const {
  const size_t size = before.size() + between.size() + after.size();
  if (workspace->edited_.size() < size + kTermPadding) workspace->edited_.resize(size + kTermPadding);
  char* const edited = workspace->edited_.data();
  char* end = edited;
  for (const std::string_view part : {before, between, after}) end = std::copy(part.begin(), part.end(), end);
  return vocabulary_->FindWord({edited, LightStem(reinterpret_cast<const uint8_t*>(edited), size)});
}

void Speller::AddEdits(std::string_view word, Workspace* workspace) const {
  const Letters letters = LettersOf(word);
  const auto add = [&](size_t before, std::string_view between, size_t after) {
    const int32_t id =
        Lookup(word.substr(0, letters.begin[before]), between, word.substr(letters.begin[after]), workspace);
    if (id != kNoTerm) workspace->found_.push_back(id);
  };
  for (size_t i = 0; i <= letters.count; ++i) {
    for (const std::string& letter : letters_) {
      add(i, letter, i);
      if (i < letters.count) add(i, letter, i + 1);
    }
    if (i < letters.count) add(i, {}, i + 1);
    if (i + 1 < letters.count) {
      const std::string_view first = word.substr(letters.begin[i], letters.begin[i + 1] - letters.begin[i]);
      const std::string_view second = word.substr(letters.begin[i + 1], letters.begin[i + 2] - letters.begin[i + 1]);
      add(i, std::string(second).append(first), i + 2);
    }
  }
}

bool Speller::Split(std::string_view word, Workspace* workspace, std::vector<WeightedTerm>* terms) const {
  const Letters letters = LettersOf(word);
  int32_t best = frequent_ - 1;
  WeightedTerm parts[2];
  for (size_t i = kShortestPart; i + kShortestPart <= letters.count; ++i) {
    const int32_t first = Lookup(word.substr(0, letters.begin[i]), {}, {}, workspace);
    if (first == kNoTerm) continue;
    const int32_t second = Lookup(word.substr(letters.begin[i]), {}, {}, workspace);
    if (second == kNoTerm) continue;
    const int32_t rarer = std::min(vocabulary_->document_frequency(first), vocabulary_->document_frequency(second));
    if (rarer <= best) continue;
    best = rarer;
    parts[0] = {first, 1};
    parts[1] = {second, 1};
  }
  if (best < frequent_) return false;
  terms->insert(terms->end(), parts, parts + 2);
  return true;
}

// Counts trigrams that words of the vocabulary share with this one. Rare trigrams say most and come first; the postings
// of a trigram are in the order of ids, so that those left out are of rare words.
void Speller::CollectShared(std::string_view word, Workspace* workspace) const {
  std::vector<uint32_t>& buckets = workspace->buckets_;
  buckets.clear();
  ForEachTrigramBucket(word, buckets_, [&](uint32_t bucket) { buckets.push_back(bucket); });
  std::sort(buckets.begin(), buckets.end());
  buckets.erase(std::unique(buckets.begin(), buckets.end()), buckets.end());
  const auto size = [&](uint32_t bucket) { return posting_begin_[bucket + 1] - posting_begin_[bucket]; };
  std::stable_sort(buckets.begin(), buckets.end(), [&](uint32_t a, uint32_t b) { return size(a) < size(b); });

  std::vector<Workspace::Shared>& table = workspace->table_;
  table.assign(2 * kMostPostings, {0, 0});
  size_t left = kMostPostings;
  for (const uint32_t bucket : buckets) {
    const size_t count = std::min<size_t>({size(bucket), kMostPostingsOfTrigram, left});
    left -= count;
    const int32_t* const postings = postings_ + posting_begin_[bucket];
    for (size_t i = 0; i < count; ++i) {
      const int32_t place = postings[i] + 1;
      uint64_t slot = Reduce(Mix(static_cast<uint64_t>(place)), table.size());
      while (table[slot].place != 0 && table[slot].place != place) slot = slot + 1 == table.size() ? 0 : slot + 1;
      table[slot] = {place, table[slot].trigrams + 1};
    }
  }
}

void Speller::AddFar(std::string_view word, Workspace* workspace) const {
  const Letters letters = LettersOf(word);
  if (letters.count < kShortestFar) return;
  CollectShared(word, workspace);
  std::vector<Workspace::Shared>& shared = workspace->shared_;
  shared.clear();
  for (const Workspace::Shared& entry : workspace->table_) {
    if (entry.trigrams > 1) shared.push_back(entry);
  }
  const auto more = [](const Workspace::Shared& a, const Workspace::Shared& b) {
    return a.trigrams != b.trigrams ? a.trigrams > b.trigrams : a.place < b.place;
  };
  const size_t compared = std::min(shared.size(), kMostCompared);
  std::partial_sort(shared.begin(), shared.begin() + static_cast<ptrdiff_t>(compared), shared.end(), more);
  for (size_t i = 0; i < compared; ++i) {
    const int32_t id = shared[i].place - 1;
    Letters other = LettersOf(vocabulary_->text(id));
    if (other.count == 0) continue;
    size_t distance = EditDistance(letters.code_points, letters.count, other.code_points, other.count, 2);
    if (distance > 2) {
      // The vocabulary has no plural.
      other.code_points[other.count++] = 's';
      distance = EditDistance(letters.code_points, letters.count, other.code_points, other.count, 2);
    }
    if (distance <= 2) workspace->found_.push_back(id);
  }
}

void Speller::Take(float weight, Workspace* workspace, std::vector<WeightedTerm>* terms) const {
  // Ids are in the order of document frequencies.
  std::vector<int32_t>& found = workspace->found_;
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  found.resize(std::min(found.size(), kMostAlternatives));
  for (const int32_t id : found) {
    const auto share = static_cast<float>(vocabulary_->document_frequency(id)) /
                       static_cast<float>(vocabulary_->document_frequency(found[0]));
    terms->push_back({id, weight * std::sqrt(share)});
  }
}

void Speller::Correct(std::string_view word, Workspace* workspace, std::vector<WeightedTerm>* terms) const {
  const size_t letters = CountLetters(word);
  if (letters < kShortest || letters > kLongest) return;
  workspace->found_.clear();
  AddEdits(word, workspace);
  if (!workspace->found_.empty()) return Take(1, workspace, terms);
  if (Split(word, workspace, terms)) return;
  AddFar(word, workspace);
  if (!workspace->found_.empty()) Take(kFarWeight, workspace, terms);
}

void Speller::CorrectBetween(std::string_view before, std::string_view after, Workspace* workspace,
                             std::vector<WeightedTerm>* terms) const {
  const size_t letters = CountCodePoints(before) + CountCodePoints(after);
  if (letters < kShortest || letters > kLongest) return;
  workspace->found_.clear();
  const auto add = [&](std::string_view letter) {
    const int32_t id = Lookup(before, letter, after, workspace);
    if (id != kNoTerm) workspace->found_.push_back(id);
  };
  add({});
  for (const std::string& letter : letters_) add(letter);
  if (!workspace->found_.empty()) Take(1, workspace, terms);
}

int32_t Speller::Join(std::string_view before, std::string_view after, Workspace* workspace) const {
  return before.size() + after.size() <= 4 * kLongest ? Lookup(before, {}, after, workspace) : kNoTerm;
}

}  // namespace dpsr
