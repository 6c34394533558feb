#include "tokenizer_cc/core/bags/vocabulary.h"

#include <cstring>
#include <string>

#include "tokenizer_cc/core/buffer.h"
#include "tokenizer_cc/core/text/unicode_tables.h"
#include "tokenizer_cc/core/text/utf8.h"

namespace dpsr {
namespace {

// Lookups read words in blocks of 8 bytes.
constexpr size_t kPadding = 8;

struct TableEntry {
  Table table;
  uint64_t key;
  uint64_t hash;
};

std::string Padded(std::string_view word) { return std::string(word).append(kPadding, '\0'); }

TableEntry WordEntry(std::string_view word) {
  const std::string padded = Padded(word);
  const auto* bytes = reinterpret_cast<const uint8_t*>(padded.data());
  const uint64_t hash = HashWord(bytes, word.size());
  if (word.size() > 8) return {kLongWords, hash, hash};
  return {kShortWords, LoadPartial(bytes, word.size()), hash};
}

uint32_t FindWord(const Vocabulary& vocabulary, std::string_view word) {
  const std::string padded = Padded(word);
  const auto* bytes = reinterpret_cast<const uint8_t*>(padded.data());
  return vocabulary.FindWord(bytes, word.size(), HashWord(bytes, word.size()));
}

TableEntry TrigramEntry(std::string_view text) {
  uint32_t code_points[3] = {0, 0, 0};
  const auto* p = reinterpret_cast<const uint8_t*>(text.data());
  const uint8_t* const end = p + text.size();
  for (int i = 0; i < 3 && p < end; ++i) {
    const Decoded decoded = DecodeReplacing(p, end);
    code_points[i] = decoded.code_point;
    p += decoded.bytes;
  }
  const uint64_t packed = PackTrigram(code_points[0], code_points[1], code_points[2]);
  return {kTrigrams, packed, HashTrigram(packed)};
}

void Insert(TableSlot* slots, uint64_t capacity, const TableEntry& entry, uint32_t id) {
  uint64_t i = Reduce(entry.hash, capacity);
  while (slots[i].id != 0) i = i + 1 == capacity ? 0 : i + 1;
  slots[i] = {entry.key, id, 0};
}

ModelHeader MakeHeader(const TokenizerConfig& config, const std::vector<VocabularyEntry>& entries,
                       uint64_t num_documents) {
  ModelHeader header{};
  std::strncpy(header.unicode_version, unicode::kVersion, sizeof(header.unicode_version) - 1);
  header.rules_version = kRulesVersion;
  header.oov_buckets = config.oov_buckets;
  header.max_vocabulary = config.max_vocabulary;
  header.min_count = config.min_count;
  header.bigrams = config.bigrams;
  header.trigrams = config.trigrams;
  header.vocabulary_size = entries.size();
  header.num_documents = num_documents;
  uint64_t used[kTables] = {};
  for (const VocabularyEntry& entry : entries) {
    header.texts_bytes += entry.text.size();
    const Table word_table = entry.text.size() > 8 ? kLongWords : kShortWords;
    ++used[entry.kind == Kind::kWord ? word_table : entry.kind == Kind::kBigram ? kBigrams : kTrigrams];
  }
  // A third stays empty, so that probes are short.
  for (int table = 0; table < kTables; ++table) header.table_capacity[table] = used[table] + used[table] / 2 + 1;
  header.file_bytes = ModelFileBytes(header);
  return header;
}

}  // namespace

std::string WriteModel(const TokenizerConfig& config, const std::vector<VocabularyEntry>& entries,
                       uint64_t num_documents, ModelBytes* model) {
  std::string problem = config.Problem();
  if (!problem.empty()) return problem;
  if (entries.size() > config.max_vocabulary) return "more entries than max_vocabulary";
  const ModelHeader header = MakeHeader(config, entries, num_documents);
  *model = ModelBytes(header.file_bytes);
  std::memcpy(model->data(), &header, sizeof(header));
  const ModelSections sections = LocateSections(*model);
  // The sections are views of what this function fills in.
  auto* document_frequencies = const_cast<int64_t*>(sections.document_frequencies);
  auto* text_begin = const_cast<uint64_t*>(sections.text_begin);
  auto* kinds = const_cast<uint8_t*>(sections.kinds);
  auto* texts = const_cast<uint8_t*>(sections.texts);
  const auto insert = [&](const TableEntry& entry, uint32_t id) {
    Insert(const_cast<TableSlot*>(sections.tables[entry.table]), header.table_capacity[entry.table], entry, id);
  };

  uint64_t position = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    const VocabularyEntry& entry = entries[i];
    document_frequencies[i] = entry.document_frequency;
    kinds[i] = static_cast<uint8_t>(entry.kind);
    text_begin[i] = position;
    std::memcpy(texts + position, entry.text.data(), entry.text.size());
    position += entry.text.size();
    const auto id = static_cast<uint32_t>(i + 1);
    if (entry.kind == Kind::kWord) insert(WordEntry(entry.text), id);
    if (entry.kind == Kind::kTrigram) insert(TrigramEntry(entry.text), id);
  }
  text_begin[entries.size()] = position;

  const Vocabulary vocabulary(sections);
  for (size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].kind != Kind::kBigram) continue;
    const std::string_view text = entries[i].text;
    const size_t space = text.find(' ');
    const uint32_t first = space == text.npos ? 0 : FindWord(vocabulary, text.substr(0, space));
    const uint32_t second = space == text.npos ? 0 : FindWord(vocabulary, text.substr(space + 1));
    if (first == 0 || second == 0) return "bigram '" + entries[i].text + "': its words are not in the vocabulary";
    const uint64_t key = Vocabulary::BigramKey(first, second);
    insert({kBigrams, key, Vocabulary::BigramSlotHash(key)}, static_cast<uint32_t>(i + 1));
  }

  Sign(kTokenizerFile, model);
  return "";
}

}  // namespace dpsr
