#include "tokenizer_cc/core/terms/term_tokenizer.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tokenizer_cc/core/terms/vocabulary_builder.h"

namespace dpsr {
namespace {

const std::vector<std::string> kTexts = {"Stainless-Steel Sinks 33x22 in. 18 Gauge",
                                         "Stainless steel door handles, doorknobs",
                                         "Steel doors for the garage",
                                         "Glass door boards, 2 deck boards",
                                         "Kühlschränke Gefriertruhe",
                                         "防摔 手机壳 iPhone 13",
                                         ""};

std::shared_ptr<const TermTokenizer> Build(const std::vector<std::string>& texts, const TermConfig& config = {}) {
  TermVocabularyBuilder builder(config);
  builder.Add({std::vector<std::string_view>(texts.begin(), texts.end())});
  EXPECT_EQ(builder.num_documents(), texts.size());
  ModelBytes model;
  EXPECT_EQ(builder.Build(&model), "");
  std::string error;
  auto tokenizer = TermTokenizer::FromBytes(std::move(model), &error);
  EXPECT_EQ(error, "");
  return tokenizer;
}

std::vector<std::string> Encode(const TermTokenizer& tokenizer, std::string_view text) {
  TermTokenizer::Workspace workspace;
  Buffer<int32_t> ids;
  tokenizer.Encode(text, &workspace, &ids);
  std::vector<std::string> terms;
  for (size_t i = 0; i < ids.size(); ++i) terms.emplace_back(tokenizer.text(ids.data()[i]));
  return terms;
}

using Weights = std::vector<std::pair<std::string, float>>;

Weights EncodeQuery(const TermTokenizer& tokenizer, std::string_view text) {
  TermTokenizer::Workspace workspace;
  Buffer<int32_t> ids;
  Buffer<float> weights;
  tokenizer.EncodeQuery(text, &workspace, &ids, &weights);
  EXPECT_EQ(ids.size(), weights.size());
  Weights terms;
  for (size_t i = 0; i < ids.size(); ++i) terms.emplace_back(tokenizer.text(ids.data()[i]), weights.data()[i]);
  return terms;
}

TEST(TermTokenizerTest, IdsDescendByDocumentFrequencyThenText) {
  const auto tokenizer = Build({"b a b", "b c", "a b"}, {true, 1, 2});
  std::vector<std::string> terms;
  for (int32_t id = 0; id < tokenizer->num_terms(); ++id) terms.emplace_back(tokenizer->text(id));
  EXPECT_EQ(terms, (std::vector<std::string>{"b", "a", "a b", "c"}));
  EXPECT_EQ(std::vector<int32_t>(tokenizer->document_frequencies(), tokenizer->document_frequencies() + 4),
            (std::vector<int32_t>{3, 2, 2, 1}));
  EXPECT_EQ(tokenizer->num_documents(), 3u);
  EXPECT_TRUE(tokenizer->bigrams());
}

TEST(TermTokenizerTest, EncodesInTheOrderOfTheText) {
  const auto tokenizer = Build({"red door", "red door lamp"}, {true, 1, 2});
  EXPECT_EQ(Encode(*tokenizer, "Doors, red red wooden door"), (std::vector<std::string>{"door", "red", "red", "door"}));
  EXPECT_EQ(Encode(*tokenizer, "lamp red doors"), (std::vector<std::string>{"lamp", "red", "door", "red door"}));
  EXPECT_EQ(Encode(*tokenizer, ""), std::vector<std::string>{});
  EXPECT_EQ(Encode(*tokenizer, "wooden"), std::vector<std::string>{});
}

TEST(TermTokenizerTest, EveryTermOfManyIsFound) {
  std::mt19937 random(1);
  std::vector<std::string> texts;
  for (int i = 0; i < 3000; ++i) {
    std::string word = std::to_string(i) + " ";
    for (size_t letters = 1 + random() % 14; letters > 0; --letters) word += static_cast<char>('a' + random() % 4);
    texts.push_back(word);
  }
  const auto tokenizer = Build(texts, {true, 1, 1});
  TermAnalyzer analyzer;
  for (const std::string& text : texts) {
    analyzer.Analyze(text);
    const std::string first(analyzer.view(analyzer.terms()[0])), second(analyzer.view(analyzer.terms()[1]));
    EXPECT_EQ(Encode(*tokenizer, text), (std::vector<std::string>{first, second, first + " " + second}));
  }
}

TEST(TermTokenizerTest, RareWordsAndTheirBigramsAreLeftOut) {
  const auto tokenizer = Build({"red door", "red door", "red lamp"}, {true, 2, 1});
  EXPECT_EQ(tokenizer->num_terms(), 3);
  EXPECT_EQ(Encode(*tokenizer, "red lamp door"), (std::vector<std::string>{"red", "door"}));
}

TEST(TermTokenizerTest, CorrectsOneEdit) {
  const auto tokenizer = Build(kTexts);
  EXPECT_EQ(EncodeQuery(*tokenizer, "steel doors"), (Weights{{"steel", 1}, {"door", 1}}));
  for (const char* typo : {"stel", "steeel", "stewl", "setel", "teel", "steels", "steelx"}) {
    EXPECT_EQ(EncodeQuery(*tokenizer, typo), (Weights{{"steel", 1}})) << typo;
  }
  EXPECT_EQ(EncodeQuery(*tokenizer, "boadrs"), (Weights{{"board", 1}}));
  EXPECT_EQ(EncodeQuery(*tokenizer, "boardsx"), (Weights{{"board", 1}}));
  EXPECT_EQ(EncodeQuery(*tokenizer, "glas"), (Weights{{"glass", 1}}));
  EXPECT_EQ(EncodeQuery(*tokenizer, "kühlschränk"), (Weights{{"kühlschränke", 1}}));
  EXPECT_EQ(EncodeQuery(*tokenizer, "zz q 手几 👎"), (Weights{{"手", 1}}));
}

TEST(TermTokenizerTest, CorrectsTwoEditsOfLongWords) {
  const auto tokenizer = Build(kTexts);
  EXPECT_EQ(EncodeQuery(*tokenizer, "stianlses"), (Weights{{"stainless", Speller::kFarWeight}}));
  EXPECT_EQ(EncodeQuery(*tokenizer, "hanxdlez"), (Weights{{"handle", Speller::kFarWeight}}));
  EXPECT_EQ(EncodeQuery(*tokenizer, "stxxl"), Weights{});
}

TEST(TermTokenizerTest, CorrectsSpacesAndDigits) {
  const auto tokenizer = Build(kTexts);
  EXPECT_EQ(EncodeQuery(*tokenizer, "garagedoor"), (Weights{{"garage", 1}, {"door", 1}}));
  EXPECT_EQ(EncodeQuery(*tokenizer, "gla ss"), (Weights{{"glass", 1}}));
  EXPECT_EQ(EncodeQuery(*tokenizer, "door knob"), (Weights{{"door", 1}, {"doorknob", 1}}));
  EXPECT_EQ(EncodeQuery(*tokenizer, "st3el"), (Weights{{"steel", 1}}));
  EXPECT_EQ(EncodeQuery(*tokenizer, "ste3el"), (Weights{{"steel", 1}}));
  EXPECT_EQ(EncodeQuery(*tokenizer, "in2door"), (Weights{{"in", 1}, {"2", 1}, {"door", 1}}));
}

TEST(TermTokenizerTest, MoreFrequentWordsWeighMore) {
  std::vector<std::string> texts(9, "cat");
  for (const char* rare : {"car", "car", "car", "car", "cap", "cab", "can"}) texts.push_back(rare);
  const Weights found = EncodeQuery(*Build(texts), "caz");
  ASSERT_EQ(found.size(), Speller::kMostAlternatives);
  EXPECT_EQ(found[0], (std::pair<std::string, float>{"cat", 1}));
  EXPECT_EQ(found[1].first, "car");
  EXPECT_FLOAT_EQ(found[1].second, 2.0f / 3);
  EXPECT_FLOAT_EQ(found[3].second, 1.0f / 3);
}

TEST(TermTokenizerTest, ABigramHasTheWeightOfItsWords) {
  const auto tokenizer = Build({"stainless sinks", "stainless sinks"}, {true, 1, 2});
  EXPECT_EQ(EncodeQuery(*tokenizer, "stianlses sinc"),
            (Weights{{"stainless", Speller::kFarWeight}, {"sink", 1}, {"stainless sink", Speller::kFarWeight}}));
}

TEST(TermTokenizerTest, CorrectionsAreBounded) {
  const auto tokenizer = Build(kTexts);
  EXPECT_EQ(EncodeQuery(*tokenizer, std::string(10'000, 'd')), Weights{});
  EXPECT_EQ(EncodeQuery(*tokenizer, std::string(33, 'd')), Weights{});
  std::string many;
  for (int i = 0; i < 1000; ++i) many += "stewl ";
  EXPECT_EQ(EncodeQuery(*tokenizer, many).size(), TermTokenizer::kMostCorrected);
  // Far more words share trigrams than are counted.
  std::vector<std::string> texts;
  for (int i = 0; i < 26 * 26 * 26; ++i) {
    texts.push_back(std::string("stainless") + static_cast<char>('a' + i % 26) + static_cast<char>('a' + i / 26 % 26) +
                    static_cast<char>('a' + i / 676));
  }
  const auto large = Build(texts);
  EXPECT_EQ(EncodeQuery(*large, "stianlessaaa"), (Weights{{"stainlessaaa", 1}}));
  EXPECT_LE(EncodeQuery(*large, "xstianlessaaa").size(), Speller::kMostAlternatives);
  EXPECT_EQ(EncodeQuery(*large, "xstianlessaaax").size(), 0u);
  EXPECT_GT(EncodeQuery(*large, "stianlessaa").size(), 0u);
}

TEST(TermTokenizerTest, AnyBytes) {
  const auto tokenizer = Build(kTexts, {true, 1, 1});
  std::mt19937 random(1);
  TermTokenizer::Workspace workspace;
  Buffer<int32_t> ids;
  Buffer<float> weights;
  for (int round = 0; round < 3000; ++round) {
    std::string text = kTexts[random() % kTexts.size()];
    for (uint32_t changes = random() % 5; changes > 0 && !text.empty(); --changes) {
      text[random() % text.size()] = static_cast<char>(random());
    }
    if (random() % 3 == 0) text += std::string(random() % 50, static_cast<char>(random()));
    ids.Clear();
    weights.Clear();
    tokenizer->EncodeQuery(text, &workspace, &ids, &weights);
    ASSERT_EQ(ids.size(), weights.size());
    for (size_t i = 0; i < ids.size(); ++i) {
      ASSERT_TRUE(0 <= ids.data()[i] && ids.data()[i] < tokenizer->num_terms());
      ASSERT_TRUE(0 < weights.data()[i] && weights.data()[i] <= 1);
    }
  }
}

TEST(TermTokenizerTest, NoTextIsAVocabularyToo) {
  const auto tokenizer = Build({});
  EXPECT_EQ(tokenizer->num_terms(), 0);
  EXPECT_EQ(EncodeQuery(*tokenizer, "steel sinks handles 2 手"), Weights{});
}

TEST(TermTokenizerTest, ThreadsShareIt) {
  const auto tokenizer = Build(kTexts);
  const std::vector<std::string> queries = {"stel dors", "boadrs for the garagedoor", "stianlses st3el", "手机"};
  std::vector<Weights> expected;
  for (const std::string& query : queries) expected.push_back(EncodeQuery(*tokenizer, query));
  std::vector<std::thread> threads;
  std::vector<int> wrong(8, 0);
  for (int thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&, thread] {
      for (int round = 0; round < 20; ++round) {
        for (size_t i = 0; i < queries.size(); ++i) wrong[thread] += EncodeQuery(*tokenizer, queries[i]) != expected[i];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(8, 0));
}

}  // namespace
}  // namespace dpsr
