#include "tokenizer_cc/core/subwords/subword_tokenizer.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tokenizer_cc/core/subwords/specs.h"

namespace dpsr {
namespace {

using Names = std::vector<std::string>;

std::shared_ptr<const SubwordTokenizer> Build(const SubwordSpec& spec) {
  ModelBytes model;
  EXPECT_EQ(BuildSubwordModel(spec, &model), "");
  std::string error;
  auto tokenizer = SubwordTokenizer::FromBytes(std::move(model), &error);
  EXPECT_EQ(error, "");
  return tokenizer;
}

Names Encode(const SubwordTokenizer& tokenizer, std::string_view text, SubwordTokenizer::Workspace* workspace) {
  Buffer<int32_t> ids;
  tokenizer.Encode(text, workspace, &ids);
  Names names;
  for (size_t i = 0; i < ids.size(); ++i) names.emplace_back(tokenizer.name(ids.data()[i]));
  return names;
}

Names Encode(const SubwordTokenizer& tokenizer, std::string_view text) {
  SubwordTokenizer::Workspace workspace;
  return Encode(tokenizer, text, &workspace);
}

TEST(SubwordTokenizerTest, WordPieceTakesTheLongestPieceFirst) {
  const auto tokenizer = Build(WordPieceSpec());
  EXPECT_EQ(Encode(*tokenizer, "Stainless-STEELS sink"), (Names{"[UNK]", "-", "steel", "##s", "sink"}));
  EXPECT_EQ(Encode(*tokenizer, "steelt手Café"), (Names{"steel", "##t", "手", "cafe"}));
  EXPECT_EQ(Encode(*tokenizer, "sssssssssss s"), (Names{"[UNK]", "s"}));  // 11 characters
  EXPECT_EQ(Encode(*tokenizer, ""), Names{});
}

TEST(SubwordTokenizerTest, UnigramTakesTheLikeliestPieces) {
  const auto tokenizer = Build(UnigramSpec());
  // -4.5 + -2 is more than -4 + -3.
  EXPECT_EQ(Encode(*tokenizer, "abb"), (Names{"▁", "abb"}));
  EXPECT_EQ(Encode(*tokenizer, " ab  bb "), (Names{"▁ab", "▁", "bb"}));
  // Neighbouring unknown characters are one, and a piece if together they are one.
  EXPECT_EQ(Encode(*tokenizer, "axyz手机"), (Names{"▁a", "<unk>", "手机"}));
}

TEST(SubwordTokenizerTest, BpeMergesTheEarliestLearntFirst) {
  const auto tokenizer = Build(BpeSpec());
  EXPECT_EQ(Encode(*tokenizer, "Lower LOW wolow"), (Names{"low", "er", "low", "w", "o", "low"}));
  EXPECT_EQ(Encode(*tokenizer, "l\u4e2d\u6587o"), (Names{"l", "<unk>", "o"}));
}

TEST(SubwordTokenizerTest, AddedTokensAreFoundAsTheyAreWritten) {
  EXPECT_EQ(Encode(*Build(WordPieceSpec()), "steel[SEP]sink[sep]"),
            (Names{"steel", "[SEP]", "sink", "[UNK]", "[UNK]", "[UNK]"}));
  // The mask takes the spaces before it.
  EXPECT_EQ(Encode(*Build(UnigramSpec()), "ab  <mask> ab"), (Names{"▁ab", "<mask>", "▁ab"}));
}

TEST(SubwordTokenizerTest, TokenizersMayShareAWorkspaceAndItsCache) {
  const auto unigram = Build(UnigramSpec()), bpe = Build(BpeSpec());
  SubwordTokenizer::Workspace workspace;
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Encode(*unigram, "low ab", &workspace), (Names{"▁", "<unk>", "▁ab"}));
    EXPECT_EQ(Encode(*bpe, "low ab", &workspace), (Names{"low", "<unk>"}));
  }
}

TEST(SubwordTokenizerTest, InvalidBytesAreReplaced) {
  const auto tokenizer = Build(UnigramSpec());
  EXPECT_EQ(Encode(*tokenizer, "a\xFF\xE2\x82"), Encode(*tokenizer, "a\uFFFD\uFFFD"));
}

TEST(SubwordTokenizerTest, ThreadsShareATokenizer) {
  const auto tokenizer = Build(UnigramSpec());
  const Names expected = Encode(*tokenizer, "ab abb 手机");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      SubwordTokenizer::Workspace workspace;
      for (int k = 0; k < 100; ++k) EXPECT_EQ(Encode(*tokenizer, "ab abb 手机", &workspace), expected);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace dpsr
