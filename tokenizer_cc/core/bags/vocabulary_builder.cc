#include "tokenizer_cc/core/bags/vocabulary_builder.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <numeric>
#include <system_error>
#include <thread>
#include <utility>

#include "tokenizer_cc/core/bags/trigrams.h"
#include "tokenizer_cc/core/bags/vocabulary.h"
#include "tokenizer_cc/core/buffer.h"
#include "tokenizer_cc/core/hashing.h"
#include "tokenizer_cc/core/text/segmenter.h"
#include "tokenizer_cc/core/text/utf8.h"

namespace dpsr {
namespace {

constexpr size_t kFewestTextsPerThread = 256;

struct Count {
  uint64_t key;
  uint64_t documents;  // 0: an empty slot
  uint64_t last_document;
};

// Document counts by 64-bit keys: open addressing, at most two thirds full.
class CountTable {
 public:
  // Counts a key once for each document, which are numbered from 1.
  void CountOnce(uint64_t key, uint64_t document) {
    Count& count = Find(key);
    if (count.documents == 0 && Grown()) return CountOnce(key, document);
    if (count.last_document == document) return;
    used_ += count.documents == 0;
    count = {key, count.documents + 1, document};
  }

  void Add(uint64_t key, uint64_t documents) {
    Count& count = Find(key);
    if (count.documents == 0 && Grown()) return Add(key, documents);
    used_ += count.documents == 0;
    count = {key, count.documents + documents, 0};
  }

  size_t size() const { return used_; }

  // Makes room for `count` keys at once. Keys that come in the order of another table's slots, which is that of their
  // hashes, would fill a smaller table from its beginning, without gaps, and make probes as long as the table.
  void Reserve(size_t count) {
    if (3 * count > 2 * slots_.size()) Resize(count + count / 2 + 1);
  }

  // Forgets what is in at most `documents` documents.
  void Forget(uint64_t documents) {
    std::vector<Count> old(slots_.size());
    old.swap(slots_);
    used_ = 0;
    for (const Count& count : old) {
      if (count.documents <= documents) continue;
      Find(count.key) = count;
      ++used_;
    }
  }

  template <class Visit>
  void ForEach(Visit&& visit) const {
    for (const Count& count : slots_) {
      if (count.documents != 0) visit(count);
    }
  }

 private:
  Count& Find(uint64_t key) {
    uint64_t i = Reduce(Mix(key ^ kTrigramSeed), slots_.size());
    while (slots_[i].documents != 0 && slots_[i].key != key) i = i + 1 == slots_.size() ? 0 : i + 1;
    return slots_[i];
  }

  // Makes the table larger when it is full.
  bool Grown() {
    if (3 * (used_ + 1) <= 2 * slots_.size()) return false;
    Resize(2 * slots_.size());
    return true;
  }

  void Resize(size_t slots) {
    std::vector<Count> old(slots);
    old.swap(slots_);
    for (const Count& count : old) {
      if (count.documents != 0) Find(count.key) = count;
    }
  }

  std::vector<Count> slots_ = std::vector<Count>(1024);
  size_t used_ = 0;
};

// Distinct words, numbered from 0 as they come, with their document counts.
class WordTable {
 public:
  struct Entry {
    uint64_t hash;
    size_t begin;
    size_t length;
    uint64_t documents;
    uint64_t last_document;
  };

  // The number of a word, behind which 8 bytes are readable.
  uint32_t Number(const uint8_t* bytes, size_t length) { return Number(bytes, length, HashWord(bytes, length)); }

  uint32_t Number(const uint8_t* bytes, size_t length, uint64_t hash) {
    uint64_t i = Reduce(hash, slots_.size());
    for (; slots_[i] != 0; i = i + 1 == slots_.size() ? 0 : i + 1) {
      const Entry& entry = entries_[slots_[i] - 1];
      if (entry.hash == hash && view(slots_[i] - 1) == std::string_view(reinterpret_cast<const char*>(bytes), length)) {
        return slots_[i] - 1;
      }
    }
    if (3 * (entries_.size() + 1) > 2 * slots_.size()) {
      Grow();
      return Number(bytes, length, hash);
    }
    entries_.push_back({hash, texts_.size(), length, 0, 0});
    texts_.Append(bytes, length);
    slots_[i] = static_cast<uint32_t>(entries_.size());
    return slots_[i] - 1;
  }

  std::string_view view(uint32_t number) const {
    const Entry& entry = entries_[number];
    return {reinterpret_cast<const char*>(texts_.data()) + entry.begin, entry.length};
  }
  std::vector<Entry>& entries() { return entries_; }
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  void Grow() {
    slots_.assign(2 * slots_.size(), 0);
    for (uint32_t number = 0; number < entries_.size(); ++number) {
      uint64_t i = Reduce(entries_[number].hash, slots_.size());
      while (slots_[i] != 0) i = i + 1 == slots_.size() ? 0 : i + 1;
      slots_[i] = number + 1;
    }
  }

  std::vector<uint32_t> slots_ = std::vector<uint32_t>(1024);  // number + 1; 0: empty
  std::vector<Entry> entries_;
  Buffer<uint8_t> texts_;
};

uint64_t PairKey(uint64_t first, uint64_t second) { return first << 32 | second; }

std::string TrigramText(uint64_t packed) {
  std::string text;
  for (const int shift : {42, 21, 0}) {
    uint8_t bytes[4];
    const uint32_t size = EncodeUtf8(static_cast<uint32_t>(packed >> shift & 0x1FFFFF), bytes);
    text.append(reinterpret_cast<const char*>(bytes), size);
  }
  return text;
}

// A token that may get an id, without its text.
struct Candidate {
  uint64_t documents;
  Kind kind;
  uint64_t order;  // of the bytes within the kind

  // The order of ids.
  bool operator<(const Candidate& other) const {
    if (documents != other.documents) return documents > other.documents;
    return kind != other.kind ? kind < other.kind : order < other.order;
  }
};

// Of the candidates from `begin` on, leaves the first `most` in the order of ids, in any order.
void KeepFirst(uint64_t most, size_t begin, std::vector<Candidate>* candidates) {
  if (candidates->size() - begin <= most) return;
  const auto first = candidates->begin() + static_cast<ptrdiff_t>(begin);
  const auto end = first + static_cast<ptrdiff_t>(most);
  std::nth_element(first, end, candidates->end());
  candidates->erase(end, candidates->end());
}

}  // namespace

class VocabularyBuilder::Counter {
 public:
  void Count(const TokenizerConfig& config, std::string_view text) {
    ++document_;
    segmenter_.Segment(text);
    uint32_t previous = 0;
    bool first = true;
    for (const Word& word : segmenter_.words()) {
      const uint8_t* const bytes = segmenter_.bytes(word);
      const uint32_t number = words.Number(bytes, word.length);
      WordTable::Entry& entry = words.entries()[number];
      const bool seen = entry.last_document == document_;
      entry.documents += !seen;
      entry.last_document = document_;
      if (config.bigrams && !first) bigrams.CountOnce(PairKey(previous, number), document_);
      if (config.trigrams && word.latin && !seen) {
        ForEachTrigram(bytes, word.length, [&](uint32_t a, uint32_t b, uint32_t c) {
          trigrams.CountOnce(PackTrigram(a, b, c), document_);
        });
      }
      previous = number;
      first = false;
    }
  }

  // Forgets the rarest bigrams until half of `most` is free, if there are more.
  void LimitBigrams(size_t most) {
    if (bigrams.size() <= most) return;
    uint64_t forgotten = 0;
    while (2 * bigrams.size() > most) bigrams.Forget(++forgotten);
    // What comes back starts from 0 and may be forgotten again: the errors of all times add up.
    bigram_undercount += forgotten;
  }

  // Adds the counts of another counter.
  void Merge(const Counter& other) {
    std::vector<uint32_t> numbers;
    for (uint32_t i = 0; i < other.words.entries().size(); ++i) {
      const WordTable::Entry& entry = other.words.entries()[i];
      const std::string_view text = other.words.view(i);
      numbers.push_back(words.Number(reinterpret_cast<const uint8_t*>(text.data()), text.size(), entry.hash));
      words.entries()[numbers.back()].documents += entry.documents;
    }
    other.bigrams.ForEach([&](const auto& count) {
      bigrams.Add(PairKey(numbers[count.key >> 32], numbers[static_cast<uint32_t>(count.key)]), count.documents);
    });
    other.trigrams.ForEach([&](const auto& count) { trigrams.Add(count.key, count.documents); });
  }

  // The tokens in the order of their ids.
  std::vector<VocabularyEntry> Commonest(const TokenizerConfig& config, const KindLimits& limits) const;

  WordTable words;
  CountTable bigrams;   // by PairKey of word numbers
  CountTable trigrams;  // by PackTrigram
  uint64_t bigram_undercount = 0;

 private:
  uint64_t document_ = 0;
  Segmenter segmenter_;
};

std::vector<VocabularyEntry> VocabularyBuilder::Counter::Commonest(const TokenizerConfig& config,
                                                                   const KindLimits& limits) const {
  // Ranks put bigrams in the order of their bytes without writing them out: a space sorts before all that words hold.
  const size_t num_words = words.entries().size();
  std::vector<uint32_t> by_text(num_words), rank(num_words);
  std::iota(by_text.begin(), by_text.end(), 0);
  std::sort(by_text.begin(), by_text.end(), [&](uint32_t a, uint32_t b) { return words.view(a) < words.view(b); });
  for (uint32_t i = 0; i < num_words; ++i) rank[by_text[i]] = i;

  std::vector<Candidate> chosen;
  const auto add = [&](uint64_t documents, Kind kind, uint64_t order) {
    if (documents >= config.min_count) chosen.push_back({documents, kind, order});
  };
  for (uint32_t i = 0; i < num_words; ++i) add(words.entries()[i].documents, Kind::kWord, rank[i]);
  KeepFirst(limits.words, 0, &chosen);
  const size_t kept_words = chosen.size();
  std::vector<bool> is_kept(num_words);
  for (const Candidate& word : chosen) is_kept[word.order] = true;

  bigrams.ForEach([&](const auto& count) {
    const uint32_t first = rank[count.key >> 32], second = rank[static_cast<uint32_t>(count.key)];
    if (is_kept[first] && is_kept[second]) add(count.documents, Kind::kBigram, PairKey(first, second));
  });
  KeepFirst(limits.bigrams, kept_words, &chosen);
  const size_t kept_bigrams = chosen.size();
  trigrams.ForEach([&](const auto& count) { add(count.documents, Kind::kTrigram, count.key); });
  KeepFirst(limits.trigrams, kept_bigrams, &chosen);
  KeepFirst(config.max_vocabulary, 0, &chosen);
  std::sort(chosen.begin(), chosen.end());

  std::vector<VocabularyEntry> entries;
  entries.reserve(chosen.size());
  const auto word = [&](uint64_t word_rank) { return std::string(words.view(by_text[word_rank])); };
  for (const auto& [documents, kind, order] : chosen) {
    std::string text = kind == Kind::kWord     ? word(order)
                       : kind == Kind::kBigram ? word(order >> 32) + " " + word(static_cast<uint32_t>(order))
                                               : TrigramText(order);
    entries.push_back({std::move(text), kind, static_cast<int64_t>(documents)});
  }
  return entries;
}

VocabularyBuilder::VocabularyBuilder(const TokenizerConfig& config, size_t threads, size_t max_counted_bigrams,
                                     const KindLimits& limits)
    : config_(config), limits_(limits), bigrams_per_counter_(std::max<size_t>(max_counted_bigrams / threads, 1)) {
  for (size_t i = 0; i < threads; ++i) counters_.push_back(std::make_unique<Counter>());
}

VocabularyBuilder::~VocabularyBuilder() = default;

void VocabularyBuilder::Add(const std::vector<std::string_view>& texts) {
  num_documents_ += texts.size();
  const size_t used = std::clamp<size_t>(texts.size() / kFewestTextsPerThread, 1, counters_.size());
  const auto count = [&](size_t thread) {
    const size_t end = texts.size() * (thread + 1) / used;
    for (size_t i = texts.size() * thread / used; i < end; ++i) {
      counters_[thread]->Count(config_, texts[i]);
      counters_[thread]->LimitBigrams(bigrams_per_counter_);
    }
  };
  // An exception that leaves a thread terminates the process, so each is carried to the caller.
  std::vector<std::exception_ptr> failures(used);
  const auto try_to_count = [&](size_t thread) {
    try {
      count(thread);
    } catch (...) {
      failures[thread] = std::current_exception();
    }
  };
  std::vector<std::thread> workers;
  workers.reserve(used);
  size_t started = 1;
  try {
    for (; started < used; ++started) workers.emplace_back(try_to_count, started);
  } catch (const std::system_error&) {
    // The system gives no more threads; this one counts their texts below.
  }
  try_to_count(0);
  for (size_t thread = started; thread < used; ++thread) try_to_count(thread);
  for (std::thread& worker : workers) worker.join();
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

uint64_t VocabularyBuilder::bigram_undercount() const {
  uint64_t sum = 0;
  for (const auto& counter : counters_) sum += counter->bigram_undercount;
  return sum;
}

std::string VocabularyBuilder::Build(ModelBytes* model) const {
  if (counters_.size() == 1) return WriteCommonest(*counters_[0], model);
  size_t bigrams = 0, trigrams = 0;
  for (const auto& counter : counters_) {
    bigrams += counter->bigrams.size();
    trigrams += counter->trigrams.size();
  }
  Counter all;
  all.bigrams.Reserve(bigrams);
  all.trigrams.Reserve(trigrams);
  for (const auto& counter : counters_) all.Merge(*counter);
  return WriteCommonest(all, model);
}

std::string VocabularyBuilder::WriteCommonest(const Counter& counter, ModelBytes* model) const {
  return WriteModel(config_, counter.Commonest(config_, limits_), num_documents_, model);
}

}  // namespace dpsr
