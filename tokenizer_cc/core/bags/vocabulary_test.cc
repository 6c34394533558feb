#include "tokenizer_cc/core/bags/vocabulary.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tokenizer_cc/core/hashing.h"

namespace dpsr {
namespace {

uint32_t Find(const Vocabulary& vocabulary, std::string word) {
  const size_t length = word.size();
  word.append(8, 'x');  // what lies behind a word must not matter
  const auto* bytes = reinterpret_cast<const uint8_t*>(word.data());
  return vocabulary.FindWord(bytes, length, HashWord(bytes, length));
}

TEST(VocabularyTest, FindsWhatWasWrittenAndNothingElse) {
  std::vector<VocabularyEntry> entries;
  for (int i = 0; i < 3000; ++i) entries.push_back({"w" + std::to_string(i * 7919), Kind::kWord, 9});
  for (int i = 0; i < 300; ++i) entries.push_back({"long-word-" + std::to_string(i), Kind::kWord, 8});
  entries.push_back({"w0 w7919", Kind::kBigram, 7});
  entries.push_back({"#é0", Kind::kTrigram, 6});
  ModelBytes model;
  ASSERT_EQ(WriteModel({5000, 1, 10, true, true}, entries, 42, &model), "");
  ASSERT_EQ(CheckModel(model), "");
  const Vocabulary vocabulary(LocateSections(model));
  ASSERT_EQ(vocabulary.size(), entries.size());
  for (uint32_t id = 1; id <= entries.size(); ++id) {
    EXPECT_EQ(vocabulary.text(id), entries[id - 1].text);
    EXPECT_EQ(vocabulary.kind(id), entries[id - 1].kind);
    EXPECT_EQ(vocabulary.document_frequency(id), entries[id - 1].document_frequency);
    if (vocabulary.kind(id) == Kind::kWord) {
      EXPECT_EQ(Find(vocabulary, entries[id - 1].text), id);
    }
  }
  EXPECT_EQ(Find(vocabulary, "w1"), 0u);
  EXPECT_EQ(Find(vocabulary, "long-word-"), 0u);
  EXPECT_EQ(Find(vocabulary, "long-word-1x"), 0u);
  EXPECT_EQ(vocabulary.FindBigram(Vocabulary::BigramKey(1, 2)), 3301u);
  EXPECT_EQ(vocabulary.FindBigram(Vocabulary::BigramKey(2, 1)), 0u);
  EXPECT_EQ(vocabulary.FindTrigram(PackTrigram('#', 0xE9, '0')), 3302u);
  EXPECT_EQ(vocabulary.FindTrigram(PackTrigram('0', 0xE9, '#')), 0u);
}

TEST(VocabularyTest, RefusesWhatCannotBeWritten) {
  ModelBytes model;
  EXPECT_EQ(WriteModel({10, 1, 10, true, true}, {{"a b", Kind::kBigram, 1}}, 1, &model),
            "bigram 'a b': its words are not in the vocabulary");
  EXPECT_EQ(WriteModel({1, 1, 10, true, true}, {{"a", Kind::kWord, 1}, {"b", Kind::kWord, 1}}, 1, &model),
            "more entries than max_vocabulary");
  EXPECT_EQ(WriteModel({1, 1, 0, true, true}, {}, 1, &model), "oov_buckets = 0, expected 1 to 16777216");
}

TEST(VocabularyTest, HashesAreWhatFilesRelyOn) {
  const uint8_t word[16] = {'s', 't', 'e', 'e', 'l', 'x'};
  EXPECT_EQ(HashWord(word, 5), Mix(kWordSeed ^ 0x6c65657473));
  EXPECT_NE(HashWord(word, 5), HashWord(word, 6));
  EXPECT_EQ(Reduce(UINT64_MAX, 10), 9u);
  EXPECT_EQ(Reduce(0, 10), 0u);
}

}  // namespace
}  // namespace dpsr
