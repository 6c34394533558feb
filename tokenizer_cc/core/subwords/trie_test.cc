#include "tokenizer_cc/core/subwords/trie.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <vector>

namespace dpsr {
namespace {

using Key = std::pair<std::string, int32_t>;

std::string RandomText(std::mt19937* random, size_t most) {
  std::string text((*random)() % (most + 1), ' ');
  for (char& byte : text) byte = static_cast<char>((*random)() % 4 == 0 ? (*random)() : 'a' + (*random)() % 3);
  return text;
}

TEST(TrieTest, FindsItsKeysAndNothingElse) {
  std::mt19937 random(1);
  for (const int size : {1, 10, 1000, 50'000}) {
    std::map<std::string, int32_t> expected;
    for (int i = 0; i < size; ++i) expected[RandomText(&random, 9) + "x"] = i;
    const std::vector<TrieUnit> units = Trie::Build({expected.begin(), expected.end()});
    const Trie trie(units.data(), units.size());
    EXPECT_TRUE(trie.IsSound(static_cast<uint64_t>(size)));
    EXPECT_FALSE(trie.IsSound(static_cast<uint64_t>(size) - 1));
    const auto value_of = [&](const std::string& text) {
      const uint32_t state = trie.Walk(text);
      return state == 0 ? -1 : trie.value(state);
    };
    for (const auto& [text, value] : expected) EXPECT_EQ(value_of(text), value);
    for (int i = 0; i < 1000; ++i) {
      const std::string text = RandomText(&random, 10);
      const auto found = expected.find(text);
      EXPECT_EQ(value_of(text), found == expected.end() ? -1 : found->second);
    }
  }
}

TEST(TrieTest, LongestPrefix) {
  const std::vector<TrieUnit> units = Trie::Build({{"steel", 1}, {"st", 2}, {"steels", 3}, {"", 9}});
  const Trie trie(units.data(), units.size());
  const auto longest = [&](const std::string& text) {
    const auto* p = reinterpret_cast<const uint8_t*>(text.data());
    return trie.LongestPrefix(p, p + text.size());
  };
  EXPECT_EQ(longest("steel sink"), (std::pair<int32_t, size_t>(1, 5)));
  EXPECT_EQ(longest("steam"), (std::pair<int32_t, size_t>(2, 2)));
  EXPECT_EQ(longest("steels"), (std::pair<int32_t, size_t>(3, 6)));
  EXPECT_EQ(longest("s"), (std::pair<int32_t, size_t>(-1, 0)));
  EXPECT_EQ(longest(""), (std::pair<int32_t, size_t>(-1, 0)));
}

TEST(TrieTest, OfEqualKeysTheLastCounts) {
  const std::vector<TrieUnit> units = Trie::Build({{"a", 5}, {"b", 6}, {"a", 7}});
  const Trie trie(units.data(), units.size());
  EXPECT_EQ(trie.value(trie.Walk("a")), 7);
  EXPECT_EQ(trie.value(trie.Walk("b")), 6);
}

TEST(TrieTest, ATrieOfNothing) {
  const std::vector<TrieUnit> units = Trie::Build({});
  const Trie trie(units.data(), units.size());
  EXPECT_TRUE(trie.IsSound(0));
  EXPECT_EQ(trie.Walk("a"), 0u);
}

}  // namespace
}  // namespace dpsr
