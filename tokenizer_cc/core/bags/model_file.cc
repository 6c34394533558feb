#include "tokenizer_cc/core/bags/model_file.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>

#include "tokenizer_cc/core/text/unicode_tables.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tokenizer.model is little-endian and used in place"
#endif

namespace dpsr {
namespace {

constexpr uint64_t kMaxVocabulary = uint64_t{1} << 30;
constexpr uint64_t kMaxOovBuckets = uint64_t{1} << 24;
constexpr uint64_t kMaxSectionBytes = uint64_t{1} << 40;

uint64_t RoundUp8(uint64_t bytes) { return (bytes + 7) & ~uint64_t{7}; }

std::string Quoted(const char* text, size_t size) {
  std::string quoted = "'";
  for (size_t i = 0; i < size && text[i] != '\0'; ++i) quoted += text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
  return quoted + "'";
}

// Checks of the header alone, each of which the next ones rely on.
std::string CheckHeader(const ModelBytes& model) {
  if (model.size() == 0) return "the file is empty; write it again with Tokenizer.save";
  const size_t known = model.size() < sizeof(kModelMagic) ? model.size() : sizeof(kModelMagic);
  if (std::memcmp(model.data(), kModelMagic, known) != 0) {
    return "not a tokenizer model: it does not start with DPSRTOK; give the tokenizer.model of a dataset or a servable";
  }
  const auto truncated = [&](uint64_t expected) {
    return "truncated: " + std::to_string(model.size()) + " bytes, expected " + std::to_string(expected) +
           "; copy the file again";
  };
  if (model.size() < sizeof(ModelHeader)) return truncated(sizeof(ModelHeader));
  ModelHeader header;
  std::memcpy(&header, model.data(), sizeof(header));
  if (header.format_version > kFormatVersion) {
    return "format version " + std::to_string(header.format_version) + " is newer than version " +
           std::to_string(kFormatVersion) + ", the newest that this build reads; upgrade dpsr";
  }
  if (header.format_version != kFormatVersion || header.header_bytes != sizeof(ModelHeader)) {
    return "corrupt: format version " + std::to_string(header.format_version) + " with a header of " +
           std::to_string(header.header_bytes) + " bytes does not exist";
  }
  if (model.size() < header.file_bytes) return truncated(header.file_bytes);
  if (model.size() > header.file_bytes) {
    return "corrupt: " + std::to_string(model.size()) + " bytes, expected " + std::to_string(header.file_bytes);
  }
  const Checksum found = ComputeChecksum(model.data() + kChecksummedFrom, model.size() - kChecksummedFrom);
  if (!(found == Checksum{header.checksum[0], header.checksum[1]})) {
    return "corrupt: the checksum does not match the content; copy the file again";
  }
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

ModelBytes::ModelBytes(size_t size) : words_(new uint64_t[(size + 7) / 8]()), size_(size) {}

ModelBytes::ModelBytes(std::string_view content)
    : words_(new uint64_t[(content.size() + 7) / 8]), size_(content.size()) {
  if (!content.empty()) std::memcpy(words_.get(), content.data(), content.size());
}

std::string ModelBytes::Read(const std::string& path, ModelBytes* model) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  struct stat status;
  if (file == nullptr || fstat(fileno(file.get()), &status) != 0) return std::strerror(errno);
  if (!S_ISREG(status.st_mode)) return "not a regular file";
  const auto size = static_cast<size_t>(status.st_size);
  model->words_.reset(new uint64_t[(size + 7) / 8]);
  model->size_ = std::fread(model->words_.get(), 1, size, file.get());
  return std::ferror(file.get()) ? std::strerror(errno) : "";
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
