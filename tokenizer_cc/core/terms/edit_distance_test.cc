#include "tokenizer_cc/core/terms/edit_distance.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace dpsr {
namespace {

using Word = std::u32string;

size_t Distance(const Word& a, const Word& b, size_t most) {
  return EditDistance(reinterpret_cast<const uint32_t*>(a.data()), a.size(),
                      reinterpret_cast<const uint32_t*>(b.data()), b.size(), most);
}

// By its definition, from the ends of the words.
size_t Oracle(const Word& a, const Word& b) {
  if (a.empty() || b.empty()) return a.size() + b.size();
  const Word short_a = a.substr(0, a.size() - 1), short_b = b.substr(0, b.size() - 1);
  size_t least =
      std::min({Oracle(short_a, b) + 1, Oracle(a, short_b) + 1, Oracle(short_a, short_b) + (a.back() != b.back())});
  if (a.size() > 1 && b.size() > 1 && a.back() == b[b.size() - 2] && b.back() == a[a.size() - 2]) {
    least = std::min(least, Oracle(short_a.substr(0, a.size() - 2), short_b.substr(0, b.size() - 2)) + 1);
  }
  return least;
}

TEST(EditDistanceTest, KnownWords) {
  EXPECT_EQ(Distance(U"steel", U"steel", 2), 0u);
  EXPECT_EQ(Distance(U"steel", U"setel", 2), 1u);
  EXPECT_EQ(Distance(U"steel", U"stel", 2), 1u);
  EXPECT_EQ(Distance(U"steel", U"stxxl", 2), 2u);
  EXPECT_EQ(Distance(U"steel", U"stxxl", 1), 2u);
  EXPECT_EQ(Distance(U"ca", U"abc", 4), 3u);  // a swap is not edited again
  EXPECT_EQ(Distance(U"", U"ab", 2), 2u);
  EXPECT_EQ(Distance(U"", U"abc", 2), 3u);
}

TEST(EditDistanceTest, IsThatOfTheDefinition) {
  std::mt19937 random(1);
  const auto word = [&] {
    Word letters(random() % 6, U'a');
    for (char32_t& letter : letters) letter += random() % 3;
    return letters;
  };
  for (int i = 0; i < 1000; ++i) {
    const Word a = word(), b = word();
    const size_t expected = Oracle(a, b);
    for (const size_t most : {1, 2, 9}) EXPECT_EQ(Distance(a, b, most), std::min(expected, most + 1));
  }
}

}  // namespace
}  // namespace dpsr
