#include "tokenizer_cc/core/bags/model_file.h"

#include <cstring>

#include "tokenizer_cc/core/text/unicode_tables.h"

namespace dpsr {
namespace {

constexpr uint64_t kMaxVocabulary = uint64_t{1} << 30;
constexpr uint64_t kMaxOovBuckets = uint64_t{1} << 24;
constexpr uint64_t kMaxSectionBytes = uint64_t{1} << 40;

// Checks of the header alone, each of which the next ones rely on.
std::string CheckHeader(const ModelBytes& model) {
  const std::string problem = CheckFile(model, kTokenizerFile);
  if (!problem.empty()) return problem;
  ModelHeader header;
  std::memcpy(&header, model.data(), sizeof(header));
  if (header.rules_version != kRulesVersion ||
      std::strncmp(header.unicode_version, unicode::kVersion, sizeof(header.unicode_version)) != 0) {
    return "made for tokenization rules " + std::to_string(header.rules_version) + " under Unicode " +
           Quoted(header.unicode_version, sizeof(header.unicode_version)) + ", this build has rules " +
           std::to_string(kRulesVersion) + " under Unicode '" + unicode::kVersion +
           "'; use the version of dpsr that made it, or prepare the data again";
  }
  return "";
}

std::string CheckSizes(const ModelHeader& header) {
  TokenizerConfig config;
  config.max_vocabulary = header.max_vocabulary;
  config.min_count = header.min_count;
  config.oov_buckets = header.oov_buckets;
  const std::string problem = config.Problem();
  if (!problem.empty()) return "corrupt: " + problem;
  if (header.vocabulary_size > header.max_vocabulary) return "corrupt: the vocabulary is larger than max_vocabulary";
  if (header.texts_bytes > kMaxSectionBytes) return "corrupt: impossible size of the texts";
  for (const uint64_t capacity : header.table_capacity) {
    if (capacity == 0 || capacity > kMaxSectionBytes) return "corrupt: impossible size of a table";
  }
  return "";
}

// A lookup ends at an empty slot, and trusts ids.
std::string CheckTable(const TableSlot* slots, uint64_t capacity, uint64_t vocabulary_size) {
  bool has_empty = false;
  uint32_t largest = 0;
  for (uint64_t i = 0; i < capacity; ++i) {
    has_empty |= slots[i].id == 0;
    largest = slots[i].id > largest ? slots[i].id : largest;
  }
  return has_empty && largest <= vocabulary_size ? "" : "corrupt: a lookup table is damaged";
}

std::string CheckTexts(const ModelSections& model) {
  const ModelHeader& header = *model.header;
  bool in_order = model.text_begin[0] == 0 && model.text_begin[header.vocabulary_size] == header.texts_bytes;
  for (uint64_t i = 0; i < header.vocabulary_size; ++i) {
    in_order &= model.text_begin[i] <= model.text_begin[i + 1] && model.kinds[i] <= 2;
  }
  return in_order ? "" : "corrupt: the token texts are damaged";
}

}  // namespace

std::string TokenizerConfig::Problem() const {
  const auto out_of_range = [](const char* name, uint64_t value, uint64_t most) {
    return std::string(name) + " = " + std::to_string(value) + ", expected 1 to " + std::to_string(most);
  };
  if (max_vocabulary < 1 || max_vocabulary > kMaxVocabulary) {
    return out_of_range("max_vocabulary", max_vocabulary, kMaxVocabulary);
  }
  if (min_count < 1) return "min_count = 0, expected at least 1";
  if (oov_buckets < 1 || oov_buckets > kMaxOovBuckets) return out_of_range("oov_buckets", oov_buckets, kMaxOovBuckets);
  return "";
}

uint64_t ModelFileBytes(const ModelHeader& header) {
  uint64_t slots = 0;
  for (const uint64_t capacity : header.table_capacity) slots += capacity;
  const uint64_t size = header.vocabulary_size;
  return sizeof(ModelHeader) + size * sizeof(int64_t) + slots * sizeof(TableSlot) + (size + 1) * sizeof(uint64_t) +
         RoundUp8(size) + RoundUp8(header.texts_bytes);
}

ModelSections LocateSections(const ModelBytes& model) {
  ModelSections sections;
  const uint8_t* p = model.data();
  sections.header = reinterpret_cast<const ModelHeader*>(p);
  const uint64_t size = sections.header->vocabulary_size;
  p += sizeof(ModelHeader);
  sections.document_frequencies = reinterpret_cast<const int64_t*>(p);
  p += size * sizeof(int64_t);
  for (int table = 0; table < kTables; ++table) {
    sections.tables[table] = reinterpret_cast<const TableSlot*>(p);
    p += sections.header->table_capacity[table] * sizeof(TableSlot);
  }
  sections.text_begin = reinterpret_cast<const uint64_t*>(p);
  p += (size + 1) * sizeof(uint64_t);
  sections.kinds = p;
  p += RoundUp8(size);
  sections.texts = p;
  return sections;
}

std::string CheckModel(const ModelBytes& model) {
  std::string problem = CheckHeader(model);
  if (!problem.empty()) return problem;
  const auto& header = *reinterpret_cast<const ModelHeader*>(model.data());
  problem = CheckSizes(header);
  if (!problem.empty()) return problem;
  if (ModelFileBytes(header) != header.file_bytes) return "corrupt: the sections do not fill the file";
  const ModelSections sections = LocateSections(model);
  for (int table = 0; table < kTables && problem.empty(); ++table) {
    problem = CheckTable(sections.tables[table], header.table_capacity[table], header.vocabulary_size);
  }
  return problem.empty() ? CheckTexts(sections) : problem;
}

}  // namespace dpsr
