#include "tokenizer_cc/core/bags/tokenizer.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tokenizer_cc/core/bags/vocabulary_builder.h"

namespace dpsr {
namespace {

const std::vector<std::string> kTexts = {"Stainless-Steel sink 33x22",
                                         "steel hammer 1.5 in",
                                         "手机 case",
                                         "한국어 café",
                                         "",
                                         "an-exceptionally-long-word incomprehensibilities"};

std::shared_ptr<const Tokenizer> Build(const TokenizerConfig& config) {
  VocabularyBuilder builder(config, 1, 1'000'000);
  builder.Add({kTexts.begin(), kTexts.end()});
  ModelBytes model;
  EXPECT_EQ(builder.Build(&model), "");
  std::string error;
  auto tokenizer = Tokenizer::FromBytes(std::move(model), &error);
  EXPECT_EQ(error, "");
  return tokenizer;
}

std::vector<int32_t> Encode(const Tokenizer& tokenizer, std::string_view text) {
  Tokenizer::Workspace workspace;
  Buffer<int32_t> ids;
  tokenizer.Encode(text, &workspace, &ids);
  return {ids.data(), ids.data() + ids.size()};
}

TEST(TokenizerTest, TokensInTheirOrder) {
  const auto tokenizer = Build({1000, 1, 10, true, true});
  std::vector<std::string> texts;
  for (const Token& token : tokenizer->Tokens("Steel café 手")) texts.push_back(token.text);
  EXPECT_EQ(texts, (std::vector<std::string>{"steel", "café", "手", "steel café", "café 手", "#st", "ste", "tee", "eel",
                                             "el#", "#ca", "caf", "afé", "fé#"}));
}

TEST(TokenizerTest, EveryTokenOfTheTextsHasItsOwnId) {
  const auto tokenizer = Build({1000, 1, 10, true, true});
  for (const std::string& text : kTexts) {
    for (const Token& token : tokenizer->Tokens(text)) {
      ASSERT_GE(token.id, 1);
      ASSERT_LE(token.id, static_cast<int32_t>(tokenizer->vocabulary_size())) << token.text;
      EXPECT_EQ(tokenizer->vocabulary().text(token.id), token.text);
      EXPECT_EQ(tokenizer->vocabulary().kind(token.id), token.kind);
    }
  }
}

TEST(TokenizerTest, UnknownTokensGoToBuckets) {
  const auto tokenizer = Build({1000, 1, 10, true, true});
  for (const int32_t id : Encode(*tokenizer, "qqq zzz жжж qqq")) {
    EXPECT_GT(id, static_cast<int32_t>(tokenizer->vocabulary_size()));
    EXPECT_LT(id, tokenizer->num_ids());
  }
}

TEST(TokenizerTest, OptionsLeaveKindsOut) {
  EXPECT_EQ(Encode(*Build({1000, 1, 10, false, false}), "steel hammer").size(), 2u);
  EXPECT_EQ(Encode(*Build({1000, 1, 10, true, false}), "steel hammer").size(), 3u);
  EXPECT_EQ(Encode(*Build({1000, 1, 10, false, true}), "steel hammer").size(), 13u);
}

TEST(TokenizerTest, EncodeAppends) {
  const auto tokenizer = Build({1000, 1, 10, true, true});
  Tokenizer::Workspace workspace;
  Buffer<int32_t> ids;
  std::vector<int32_t> expected;
  for (const std::string& text : kTexts) {
    tokenizer->Encode(text, &workspace, &ids);
    for (const int32_t id : Encode(*tokenizer, text)) expected.push_back(id);
  }
  EXPECT_EQ(std::vector<int32_t>(ids.data(), ids.data() + ids.size()), expected);
}

TEST(TokenizerTest, ThreadsShareIt) {
  const auto tokenizer = Build({1000, 1, 10, true, true});
  std::vector<std::vector<int32_t>> expected;
  for (const std::string& text : kTexts) expected.push_back(Encode(*tokenizer, text));
  std::vector<std::thread> threads;
  std::vector<int> wrong(8, 0);
  for (int thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&, thread] {
      for (int round = 0; round < 50; ++round) {
        for (size_t i = 0; i < kTexts.size(); ++i) wrong[thread] += Encode(*tokenizer, kTexts[i]) != expected[i];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(8, 0));
}

}  // namespace
}  // namespace dpsr
