// subwords.model: the bytes of a subword tokenizer, on disk as in memory.

#ifndef DPSR_TOKENIZER_CC_CORE_SUBWORDS_MODEL_FILE_H_
#define DPSR_TOKENIZER_CC_CORE_SUBWORDS_MODEL_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "tokenizer_cc/core/model_bytes.h"
#include "tokenizer_cc/core/subwords/trie.h"

namespace dpsr {

enum class SubwordKind : uint32_t { kWordPiece = 0, kUnigram = 1, kBpe = 2 };
inline constexpr uint32_t kSubwordKinds = 3;

// Ids that have a part in a model's sequences.
enum SubwordRole { kPad = 0, kUnk = 1, kCls = 2, kSep = 3, kMask = 4, kRoles = 5 };

// One step of the normalizer or of the pre-tokenizer, in the words of `tokenizers`.
enum class StepKind : uint32_t {
  // Normalizers.
  kBert = 0,  // flags: BertFlag
  kForm = 1,  // flags: FormFlag
  kLowercase = 2,
  kStripAccents = 3,
  kStrip = 4,          // flags: StripFlag
  kReplace = 5,        // every `first` becomes `second`
  kReplaceSpaces = 6,  // every run of two or more spaces becomes `second`: the regular expression " {2,}"
  kPrepend = 7,        // `first`, before a text that is not empty
  kPrecompiled = 8,    // `first`: a character map of SentencePiece
  kLastNormalizer = kPrecompiled,
  // Pre-tokenizers.
  kBertWords = 16,   // cuts at white space, and around each punctuation character
  kWhitespace = 17,  // the regular expression \w+|[^\w\s]+
  kWhitespaceSplit = 18,
  kPunctuationSplit = 19,
  kDigits = 20,     // flags: 1 for each digit by itself
  kMetaspace = 21,  // at most once; flags: MetaspaceFlag; `first`: what stands for a space
  kLastPreTokenizer = kMetaspace,
};
enum BertFlag : uint32_t { kCleanText = 1, kHandleChinese = 2, kBertStripAccents = 4, kBertLowercase = 8 };
enum FormFlag : uint32_t { kCompatibility = 1, kComposed = 2 };
enum StripFlag : uint32_t { kStripLeft = 1, kStripRight = 2 };
enum MetaspaceFlag : uint32_t { kPrependAlways = 1, kSplitWords = 2 };

struct Step {
  StepKind kind;
  uint32_t flags;
  // Texts, by their place in the section kStepTexts.
  uint32_t first_begin, first_size;
  uint32_t second_begin, second_size;
};
static_assert(sizeof(Step) == 24);

// A token that is found in the text itself, before (or, if kNormalized, after) normalization.
struct AddedToken {
  int32_t id;
  uint32_t flags;
};
enum AddedFlag : uint32_t { kSingleWord = 1, kStripBefore = 2, kStripAfter = 4, kNormalized = 8 };

// BPE: two neighbours become one; the lowest rank first.
struct Merge {
  uint32_t left;  // kNoMerge: an empty slot
  uint32_t right;
  uint32_t rank;
  uint32_t merged;
};
inline constexpr uint32_t kNoMerge = 0xFFFFFFFF;

// The sections, in this order, each padded to a multiple of 8 bytes:
enum SubwordSection {
  kNameBegin = 0,  // uint64 [num_ids + 1], where the name of an id begins
  kNames = 1,      // uint8
  kContinues = 2,  // uint8 [num_ids], 1: goes on with the word before it
  kScores = 3,     // double [num_ids]; Unigram
  kPieces = 4,     // TrieUnit, piece -> id
  kMerges = 5,     // Merge, open addressing by the hash of the pair; BPE
  kAdded = 6,      // AddedToken
  kAddedRaw = 7,   // TrieUnit, text -> place in kAdded
  kAddedNormalized = 8,
  kSteps = 9,       // Step; normalizers first
  kStepTexts = 10,  // uint8
  kPrefix = 11,     // uint8, before pieces inside a word: "##"; WordPiece, BPE
  kSubwordSections = 12,
};

struct SubwordHeader {
  FileHeader file;
  char library_version[16];  // whose tables of Unicode it was made for
  uint32_t rules_version;
  SubwordKind kind;
  int32_t roles[kRoles];
  uint32_t num_ids;
  uint32_t max_word_characters;  // WordPiece; a longer word is unknown
  uint32_t fuse_unknown;         // BPE; neighbouring unknown characters become one id
  uint32_t ignore_merges;        // BPE; a word that is a piece is that piece
  uint32_t padding;
  double unknown_score;  // Unigram
  uint64_t section_bytes[kSubwordSections];
};
static_assert(sizeof(SubwordHeader) == 208);

inline constexpr FileKind kSubwordFile = {{'D', 'P', 'S', 'R', 'S', 'U', 'B', '\n'},
                                          1,
                                          sizeof(SubwordHeader),
                                          "subword model",
                                          "SubwordTokenizer.save",
                                          "give the subwords.model of a dataset or a servable"};
// Counts changes of what the steps and encoders do.
inline constexpr uint32_t kSubwordRules = 1;

// Pointers into a model.
class SubwordSections {
 public:
  explicit SubwordSections(const ModelBytes& model);

  const SubwordHeader& header() const { return *header_; }
  template <class T>
  const T* data(SubwordSection section) const {
    return reinterpret_cast<const T*>(begins_[section]);
  }
  template <class T>
  size_t size(SubwordSection section) const {
    return header_->section_bytes[section] / sizeof(T);
  }
  std::string_view text(SubwordSection section) const { return {data<char>(section), size<char>(section)}; }
  Trie trie(SubwordSection section) const { return {data<TrieUnit>(section), size<TrieUnit>(section)}; }
  std::string_view first(const Step& step) const { return text(kStepTexts).substr(step.first_begin, step.first_size); }
  std::string_view second(const Step& step) const {
    return text(kStepTexts).substr(step.second_begin, step.second_size);
  }

 private:
  const SubwordHeader* header_;
  const uint8_t* begins_[kSubwordSections];
};

// The size of a file with this header.
uint64_t SubwordFileBytes(const SubwordHeader& header);
// Checks everything that encoding relies on. Returns what is wrong and what to do; empty if nothing.
std::string CheckSubwordModel(const ModelBytes& model);

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_SUBWORDS_MODEL_FILE_H_
