#include "tokenizer_cc/core/terms/vocabulary.h"

#include <cstring>
#include <limits>

#include "tokenizer_cc/core/terms/trigram_index.h"
#include "tokenizer_cc/core/text/unicode_tables.h"

namespace dpsr {
namespace {

size_t TextBytes(const TermEntry& entry, const std::vector<TermEntry>& entries) {
  if (!entry.word.empty()) return entry.word.size();
  return entries[entry.first].word.size() + 1 + entries[entry.second].word.size();
}

// The sections of a model that is being written.
template <class T>
T* Mutable(const TermSections& sections, TermSection section) {
  return const_cast<T*>(sections.data<T>(section));
}

template <class T>
void Fill(const TermSections& sections, TermSection section, const std::vector<T>& values) {
  if (!values.empty()) std::memcpy(Mutable<T>(sections, section), values.data(), values.size() * sizeof(T));
}

void WriteTexts(const std::vector<TermEntry>& entries, const TermSections& sections) {
  auto* frequencies = Mutable<int32_t>(sections, kTermFrequencies);
  auto* begins = Mutable<uint32_t>(sections, kTermTextBegin);
  auto* const texts = Mutable<char>(sections, kTermTexts);
  uint32_t position = 0;
  const auto append = [&](std::string_view text) {
    std::memcpy(texts + position, text.data(), text.size());
    position += static_cast<uint32_t>(text.size());
  };
  for (const TermEntry& entry : entries) {
    *frequencies++ = static_cast<int32_t>(entry.document_frequency);
    *begins++ = position;
    if (!entry.word.empty()) {
      append(entry.word);
    } else {
      append(entries[entry.first].word);
      append(" ");
      append(entries[entry.second].word);
    }
  }
  *begins = position;
}

// Terms differ, so none is compared.
void WriteSlots(const std::vector<TermEntry>& entries, const TermSections& sections) {
  auto* const slots = Mutable<TermSlot>(sections, kTermSlots);
  const size_t capacity = sections.size<TermSlot>(kTermSlots);
  const TermVocabulary vocabulary(sections);
  for (uint32_t id = 0; id < entries.size(); ++id) {
    const TermEntry& entry = entries[id];
    const std::string_view text = vocabulary.text(static_cast<int32_t>(id));
    const uint64_t hash = entry.word.empty() ? HashTermPair(entry.first, entry.second)
                                             : HashWord(reinterpret_cast<const uint8_t*>(text.data()), text.size());
    *FindTermSlot(slots, capacity, hash, [](uint32_t) { return false; }) = {static_cast<uint32_t>(hash), id + 1};
  }
}

}  // namespace

std::string WriteTermModel(bool bigrams, const std::vector<TermEntry>& entries, uint64_t num_documents,
                           ModelBytes* model) {
  constexpr uint64_t kMost = std::numeric_limits<int32_t>::max();
  uint64_t text_bytes = 0, num_words = 0;
  for (const TermEntry& entry : entries) {
    text_bytes += TextBytes(entry, entries);
    num_words += !entry.word.empty();
  }
  if (num_documents > kMost) return std::to_string(num_documents) + " texts, expected at most 2147483647";
  if (entries.size() > kMost || text_bytes > kMost) {
    return std::to_string(entries.size()) + " terms of " + std::to_string(text_bytes) +
           " bytes, expected at most 2147483647 of each; raise min_count or leave bigrams out";
  }
  TrigramIndex trigrams(num_words);
  for (uint32_t id = 0; id < entries.size(); ++id) {
    if (!entries[id].word.empty()) trigrams.Add(entries[id].word, static_cast<int32_t>(id));
  }
  const std::vector<uint32_t> letters = trigrams.Letters();
  std::vector<uint32_t> posting_begins;
  std::vector<int32_t> postings;
  trigrams.Write(&posting_begins, &postings);

  TermHeader header{};
  std::strncpy(header.unicode_version, unicode::kVersion, sizeof(header.unicode_version) - 1);
  header.rules_version = kTermRules;
  header.bigrams = bigrams;
  header.num_terms = static_cast<uint32_t>(entries.size());
  header.num_documents = num_documents;
  // A third of the slots stays empty, so that probes are short.
  const uint64_t slots = entries.size() + entries.size() / 2 + 1;
  const uint64_t section_bytes[kTermSections] = {
      entries.size() * sizeof(int32_t),  (entries.size() + 1) * sizeof(uint32_t),
      text_bytes + kTermPadding,         slots * sizeof(TermSlot),
      letters.size() * sizeof(uint32_t), posting_begins.size() * sizeof(uint32_t),
      postings.size() * sizeof(int32_t)};
  std::memcpy(header.section_bytes, section_bytes, sizeof(section_bytes));
  *model = ModelBytes(TermFileBytes(header));
  std::memcpy(model->data(), &header, sizeof(header));
  const TermSections sections(*model);
  WriteTexts(entries, sections);
  WriteSlots(entries, sections);
  Fill(sections, kTermLetters, letters);
  Fill(sections, kTermPostingBegin, posting_begins);
  Fill(sections, kTermPostings, postings);
  Sign(kTermFile, model);
  return "";
}

}  // namespace dpsr
