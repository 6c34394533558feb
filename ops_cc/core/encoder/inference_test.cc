// Groups of texts, and what is wrong with texts. The arithmetic is checked against stock operations in Python.

#include "ops_cc/core/encoder/inference.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace dpsr {
namespace {

TEST(GroupTextsTest, GroupsCoverAllTextsInOrder) {
  std::mt19937 random(1);
  for (const int64_t threads : {1, 2, 7, 64}) {
    for (const int64_t num_texts : {1, 2, 5, 300}) {
      std::vector<int64_t> splits = {0};
      for (int64_t text = 0; text < num_texts; ++text) splits.push_back(splits.back() + random() % 70);
      const std::vector<int64_t> starts = GroupTexts(splits.data(), num_texts, threads);
      EXPECT_EQ(starts.front(), 0);
      EXPECT_EQ(starts.back(), num_texts);
      for (size_t group = 0; group + 1 < starts.size(); ++group) EXPECT_LT(starts[group], starts[group + 1]);
    }
  }
}

TEST(GroupTextsTest, EveryThreadHasAGroupOfALargeBatch) {
  std::vector<int64_t> splits;
  for (int64_t text = 0; text <= 100; ++text) splits.push_back(text * 10);
  for (const int64_t threads : {1, 2, 7}) {
    EXPECT_GE(static_cast<int64_t>(GroupTexts(splits.data(), 100, threads).size()) - 1, threads);
  }
}

TEST(TextsProblemTest, NamesWhatIsWrong) {
  PackedEncoder encoder{};
  encoder.num_words = 10;
  encoder.num_positions = 6;
  encoder.position_offset = 2;
  const auto problem = [&](std::vector<int32_t> tokens, std::vector<int64_t> splits) {
    return TextsProblem(encoder, tokens.data(), static_cast<int64_t>(tokens.size()), splits.data(),
                        static_cast<int64_t>(splits.size()) - 1);
  };
  EXPECT_EQ(problem({0, 9, 3, 4}, {0, 0, 4}), "");
  EXPECT_EQ(problem({}, {0}), "");
  EXPECT_NE(problem({1, 2}, {0, 1}), "");
  EXPECT_NE(problem({1, 2}, {0, 2, 1, 2}), "");
  EXPECT_EQ(problem({1, 10}, {0, 2}), "token 1 is 10; expected an id below 10");
  EXPECT_EQ(problem({-1}, {0, 1}), "token 0 is -1; expected an id below 10");
  EXPECT_EQ(problem({1, 1, 1, 1, 1}, {0, 5}), "text 0 has 5 tokens, but there are positions for 4; truncate it");
}

}  // namespace
}  // namespace dpsr
