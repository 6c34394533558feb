#include "tokenizer_cc/core/bags/trigrams.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace dpsr {
namespace {

std::vector<std::string> Trigrams(const std::string& word) {
  std::vector<std::string> found;
  ForEachTrigram(reinterpret_cast<const uint8_t*>(word.data()), word.size(), [&](uint32_t a, uint32_t b, uint32_t c) {
    found.emplace_back();
    for (const uint32_t code_point : {a, b, c}) {
      uint8_t bytes[4];
      found.back().append(reinterpret_cast<const char*>(bytes), EncodeUtf8(code_point, bytes));
    }
  });
  return found;
}

TEST(TrigramsTest, AsManyAsCodePoints) {
  EXPECT_EQ(Trigrams("sink"), (std::vector<std::string>{"#si", "sin", "ink", "nk#"}));
  EXPECT_EQ(Trigrams("s"), (std::vector<std::string>{"#s#"}));
  EXPECT_EQ(Trigrams("caf\u00e9"), (std::vector<std::string>{"#ca", "caf", "af\u00e9", "f\u00e9#"}));
  EXPECT_EQ(Trigrams("a\U0001d400"), (std::vector<std::string>{"#a\U0001d400", "a\U0001d400#"}));
}

}  // namespace
}  // namespace dpsr
