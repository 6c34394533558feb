#include "tokenizer_cc/core/bags/vocabulary_builder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tokenizer_cc/core/bags/tokenizer.h"
#include "tokenizer_cc/core/bags/vocabulary.h"

namespace {

std::atomic<bool> memory_is_short_elsewhere = false;
const std::thread::id main_thread = std::this_thread::get_id();

}  // namespace

// The allocator of this binary: on request it has no memory for any thread but the main one. Inlined, GCC would take
// malloc and delete for a mismatched pair.
#define NOT_INLINED __attribute__((noinline))
NOT_INLINED void* operator new(size_t size) {
  if (memory_is_short_elsewhere && std::this_thread::get_id() != main_thread) throw std::bad_alloc();
  if (void* const memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
NOT_INLINED void* operator new(size_t size, const std::nothrow_t&) noexcept { return std::malloc(size); }
NOT_INLINED void operator delete(void* memory) noexcept { std::free(memory); }
NOT_INLINED void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace dpsr {
namespace {

std::vector<std::string> RandomTexts(size_t count) {
  std::mt19937 random(7);
  std::vector<std::string> texts(count);
  for (std::string& text : texts) {
    for (int words = 0; words < 6; ++words) text += "w" + std::to_string(random() % 500 * (random() % 2)) + " ";
  }
  return texts;
}

std::string Build(const TokenizerConfig& config, const std::vector<std::string>& texts, size_t threads, size_t batch) {
  VocabularyBuilder builder(config, threads, 1'000'000);
  for (size_t begin = 0; begin < texts.size(); begin += batch) {
    builder.Add({texts.begin() + begin, texts.begin() + std::min(begin + batch, texts.size())});
  }
  ModelBytes model;
  EXPECT_EQ(builder.Build(&model), "");
  return std::string(model.view());
}

TEST(VocabularyBuilderTest, ReportsWantOfMemoryOnAnyThread) {
  const std::vector<std::string> texts = RandomTexts(3000);
  VocabularyBuilder builder({2000, 2, 10, true, true}, 4, 1'000'000);
  memory_is_short_elsewhere = true;
  EXPECT_THROW(builder.Add({texts.begin(), texts.end()}), std::bad_alloc);
  memory_is_short_elsewhere = false;
}

TEST(VocabularyBuilderTest, OrderBatchesAndThreadsDoNotMatter) {
  const TokenizerConfig config{2000, 2, 10, true, true};
  std::vector<std::string> texts = RandomTexts(3000);
  const std::string expected = Build(config, texts, 1, texts.size());
  std::shuffle(texts.begin(), texts.end(), std::mt19937(3));
  EXPECT_EQ(Build(config, texts, 1, 700), expected);
  EXPECT_EQ(Build(config, texts, 4, texts.size()), expected);
  EXPECT_EQ(Build(config, texts, 3, 1100), expected);
}

TEST(VocabularyBuilderTest, CountsTextsAndNotOccurrences) {
  std::string error;
  const auto tokenizer =
      Tokenizer::FromBytes(ModelBytes(Build({10, 1, 1, true, false}, {"b b b a", "a", "c"}, 1, 9)), &error);
  std::vector<std::pair<std::string, int64_t>> entries;
  for (uint32_t id = 1; id <= tokenizer->vocabulary_size(); ++id) {
    entries.emplace_back(tokenizer->vocabulary().text(id), tokenizer->vocabulary().document_frequency(id));
  }
  EXPECT_EQ(entries,
            (std::vector<std::pair<std::string, int64_t>>{{"a", 2}, {"b", 1}, {"c", 1}, {"b a", 1}, {"b b", 1}}));
  EXPECT_EQ(tokenizer->num_documents(), 3u);
}

TEST(VocabularyBuilderTest, ForgetsRareBigramsWithinTheStatedError) {
  const std::vector<std::string> texts = RandomTexts(4000);
  const TokenizerConfig config{1'000'000, 1, 1, true, false};
  VocabularyBuilder exact(config, 1, 1'000'000), limited(config, 2, 6000);
  exact.Add({texts.begin(), texts.end()});
  limited.Add({texts.begin(), texts.end()});
  EXPECT_EQ(exact.bigram_undercount(), 0u);
  const auto undercount = static_cast<int64_t>(limited.bigram_undercount());
  EXPECT_GT(undercount, 0);

  const auto frequencies = [](const VocabularyBuilder& builder) {
    ModelBytes model;
    EXPECT_EQ(builder.Build(&model), "");
    const Vocabulary vocabulary(LocateSections(model));
    std::map<std::string, int64_t> found;
    for (uint32_t id = 1; id <= vocabulary.size(); ++id) {
      found[std::string(vocabulary.text(id))] = vocabulary.document_frequency(id);
    }
    return found;
  };
  std::map<std::string, int64_t> estimates = frequencies(limited);
  EXPECT_LT(estimates.size(), 500u + 6000u + 1);
  for (const auto& [text, documents] : frequencies(exact)) {
    const int64_t estimate = estimates[text];
    if (text.find(' ') == text.npos) {
      EXPECT_EQ(estimate, documents) << text;
    }
    EXPECT_LE(estimate, documents) << text;
    EXPECT_GE(estimate, documents - undercount) << text;
  }
}

TEST(VocabularyBuilderTest, LimitsOfKindsKeepTheCommonestOfEach) {
  const auto tokens = [](const KindLimits& limits, uint64_t max_vocabulary) {
    VocabularyBuilder builder({max_vocabulary, 1, 1, true, true}, 1, 1'000, limits);
    builder.Add({"aa bb cc", "aa bb", "aa cc", "aa"});
    ModelBytes model;
    EXPECT_EQ(builder.Build(&model), "");
    const Vocabulary vocabulary(LocateSections(model));
    std::string found;
    for (uint32_t id = 1; id <= vocabulary.size(); ++id) found.append(vocabulary.text(id)).append("|");
    return found;
  };
  EXPECT_EQ(tokens({3, 1, 2}, 99), "aa|#aa|aa#|bb|cc|aa bb|");
  EXPECT_EQ(tokens({3, 1, 2}, 4), "aa|#aa|aa#|bb|");
  // "cc" has no id, so neither have its bigrams.
  EXPECT_EQ(tokens({2, 99, 0}, 99), "aa|bb|aa bb|");
  EXPECT_EQ(tokens({0, 99, 1}, 99), "#aa|");
  EXPECT_EQ(tokens({99, 99, 99}, 99), tokens({}, 99));
}

TEST(VocabularyBuilderTest, MayGoOnAfterBuild) {
  VocabularyBuilder builder({10, 1, 1, true, true}, 2, 1'000'000);
  ModelBytes first, second;
  builder.Add({"a"});
  EXPECT_EQ(builder.Build(&first), "");
  builder.Add({"b"});
  EXPECT_EQ(builder.Build(&second), "");
  EXPECT_EQ(second.view(), Build({10, 1, 1, true, true}, {"a", "b"}, 1, 1));
}

}  // namespace
}  // namespace dpsr
