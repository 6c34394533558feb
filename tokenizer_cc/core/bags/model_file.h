// tokenizer.model: the bytes of a tokenizer, on disk as in memory.

#ifndef DPSR_TOKENIZER_CC_CORE_BAGS_MODEL_FILE_H_
#define DPSR_TOKENIZER_CC_CORE_BAGS_MODEL_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "tokenizer_cc/core/model_bytes.h"

namespace dpsr {

// The kind of a token. Tokens of equal document frequency are ordered by kind.
enum class Kind : uint8_t { kWord = 0, kBigram = 1, kTrigram = 2 };

// Configuration of a vocabulary; bigrams and trigrams change the output of Encode as well.
struct TokenizerConfig {
  uint64_t max_vocabulary = 500'000;  // 1 .. 2^30
  uint64_t min_count = 2;             // at least 1
  uint32_t oov_buckets = 10'000;      // 1 .. 2^24
  bool bigrams = true;
  bool trigrams = true;

  // What is wrong with the configuration; empty if nothing.
  std::string Problem() const;
};

// The file is little-endian and made of these sections, each a multiple of 8 bytes long:
//
//   ModelHeader
//   int64 document_frequencies[vocabulary_size]        by id - 1
//   TableSlot slots[sum of table_capacity]             the tables in the order of Table
//   uint64 text_begin[vocabulary_size + 1]             where a token's text begins in `texts`
//   uint8 kinds[vocabulary_size]                       padded with zeros
//   uint8 texts[texts_bytes]                           padded with zeros
//
// so that loading is one read and one check, and nothing is parsed.
struct ModelHeader {
  char magic[8];
  uint32_t format_version;
  uint32_t header_bytes;
  uint64_t file_bytes;
  uint64_t checksum[2];  // of everything behind this field
  char unicode_version[16];
  uint32_t rules_version;
  uint32_t oov_buckets;
  uint64_t max_vocabulary;
  uint64_t min_count;
  uint32_t bigrams;
  uint32_t trigrams;
  uint64_t vocabulary_size;
  uint64_t num_documents;
  uint64_t texts_bytes;
  uint64_t table_capacity[4];
};
static_assert(sizeof(ModelHeader) == 144);

inline constexpr FileKind kTokenizerFile = {{'D', 'P', 'S', 'R', 'T', 'O', 'K', '\n'},
                                            1,
                                            sizeof(ModelHeader),
                                            "tokenizer model",
                                            "Tokenizer.save",
                                            "give the tokenizer.model of a dataset or a servable"};
// Counts changes of segmentation, token kinds and hashes, which a file cannot carry: it only says which it was made
// for.
inline constexpr uint32_t kRulesVersion = 1;
static_assert(offsetof(ModelHeader, unicode_version) == sizeof(FileHeader));

// The lookup tables: open addressing with linear probing; a key starts at Reduce(hash, capacity).
//   kShortWords: up to 8 bytes, the key is the word itself     kLongWords: the key is the hash, the text decides
//   kBigrams: the key is the pair of word ids                  kTrigrams: the key is the three code points
enum Table { kShortWords = 0, kLongWords = 1, kBigrams = 2, kTrigrams = 3, kTables = 4 };

struct TableSlot {
  uint64_t key;
  uint32_t id;  // 0: empty
  uint32_t padding;
};
static_assert(sizeof(TableSlot) == 16);

// Pointers into the sections of a model.
struct ModelSections {
  const ModelHeader* header;
  const int64_t* document_frequencies;
  const TableSlot* tables[kTables];
  const uint64_t* text_begin;
  const uint8_t* kinds;
  const uint8_t* texts;
};

// The size of a file with this header.
uint64_t ModelFileBytes(const ModelHeader& header);
// The sections of a model whose header is filled in and whose size is ModelFileBytes.
ModelSections LocateSections(const ModelBytes& model);
// Checks everything that lookups rely on. Returns what is wrong and what to do; empty if nothing.
std::string CheckModel(const ModelBytes& model);

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_BAGS_MODEL_FILE_H_
