#include "tokenizer_cc/core/subwords/graphemes.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace dpsr {
namespace {

std::vector<std::string> Clusters(std::string_view text) {
  std::vector<std::string> clusters;
  const auto* p = reinterpret_cast<const uint8_t*>(text.data());
  for (const uint8_t* const end = p + text.size(); p != end;) {
    const uint8_t* const next = ClusterEnd(p, end);
    clusters.emplace_back(reinterpret_cast<const char*>(p), static_cast<size_t>(next - p));
    p = next;
  }
  return clusters;
}

using Strings = std::vector<std::string>;

// Each text is one cluster; the rules are those of Unicode Standard Annex 29.
TEST(GraphemesTest, OneCluster) {
  for (const char* text : {"a", "\r\n", "e\u0301\u0323", "각", "\u1100\u1161\u11A8", "\uAC00\u11A8", "👍🏽",
                           "👩\u200D🚀", "❤\uFE0F", "\u0600a", "\u0915\u094D\u0937", "\u0915\u093E"}) {
    EXPECT_EQ(Clusters(text), Strings{text}) << text;
  }
}

TEST(GraphemesTest, SeveralClusters) {
  EXPECT_EQ(Clusters("ab"), (Strings{"a", "b"}));
  EXPECT_EQ(Clusters("\n\r"), (Strings{"\n", "\r"}));
  EXPECT_EQ(Clusters("\r\u0301"), (Strings{"\r", "\u0301"}));
  EXPECT_EQ(Clusters("가나"), (Strings{"가", "나"}));
  EXPECT_EQ(Clusters("👩🚀"), (Strings{"👩", "🚀"}));
  EXPECT_EQ(Clusters("👩\u200D\u200D🚀"), (Strings{"👩\u200D\u200D", "🚀"}));
  EXPECT_EQ(Clusters("a\u200D🚀"), (Strings{"a\u200D", "🚀"}));
  EXPECT_EQ(Clusters("\u0915\u0937"), (Strings{"\u0915", "\u0937"}));
}

}  // namespace
}  // namespace dpsr
