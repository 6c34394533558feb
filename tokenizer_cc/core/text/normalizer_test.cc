#include "tokenizer_cc/core/text/normalizer.h"

#include <gtest/gtest.h>

#include <string>

#include "tokenizer_cc/core/text/unicode_tables.h"
#include "tokenizer_cc/core/text/utf8.h"

namespace dpsr {
namespace {

std::string Normalized(std::string_view text) {
  Normalizer normalizer;
  Buffer<uint8_t> out;
  normalizer.Normalize(text, &out);
  return {reinterpret_cast<const char*>(out.data()), out.size()};
}

std::string Utf8(uint32_t code_point) {
  uint8_t bytes[4];
  const uint32_t size = EncodeUtf8(code_point, bytes);
  return {reinterpret_cast<const char*>(bytes), size};
}

TEST(NormalizerTest, Ascii) {
  EXPECT_EQ(Normalized(""), "");
  EXPECT_EQ(Normalized("AZ az @[`{ 09"), "az az @[`{ 09");
  EXPECT_EQ(Normalized(std::string("A\0B", 3)), std::string("a\0b", 3));
}

TEST(NormalizerTest, CaseFoldingAndCompatibility) {
  EXPECT_EQ(Normalized("Straße ÉCOLE ＡＢ１ ﬁ ½ ℃"), "strasse école ab1 fi 1⁄2 °c");
  EXPECT_EQ(Normalized("ΣΊΣΥΦΟΣ"), "σίσυφοσ");
}

TEST(NormalizerTest, ComposesAndReorders) {
  EXPECT_EQ(Normalized("e\u0301"), "é");
  EXPECT_EQ(Normalized("E\u0301\u0323"), Normalized("e\u0323\u0301"));
  EXPECT_EQ(Normalized("a\u0301\u0301"), "á\u0301");      // the second one is blocked
  EXPECT_EQ(Normalized("\u1100\u1161\u11a8"), "\uac01");  // Hangul
  EXPECT_EQ(Normalized("\uac00\u11a8"), "\uac01");        //
  EXPECT_EQ(Normalized("ｶﾞ"), "ガ");                      //
  EXPECT_EQ(Normalized("\u0301a\u0301"), "\u0301á");      // a mark with nothing before it
  EXPECT_EQ(Normalized("\u0958"), "\u0915\u093c");        // excluded from composition
}

TEST(NormalizerTest, WhatIsFoldedAloneIsFoldedTheSameInACluster) {
  // The two ways through the code agree: U+0334 joins the code point before it and composes with nothing.
  for (uint32_t code_point = 0; code_point <= 0x10FFFF; ++code_point) {
    if (code_point >= 0xD800 && code_point <= 0xDFFF) continue;
    if (unicode::Fold(code_point) == unicode::kJoins || unicode::CombiningClass(code_point) != 0) continue;
    const auto parts = unicode::Decomposition(code_point);
    if (parts.size != 0 && unicode::CombiningClass(parts.data[parts.size - 1]) != 0) continue;
    const std::string text = Utf8(code_point);
    ASSERT_EQ(Normalized(text + "\u0334"), Normalized(text) + "\u0334") << std::hex << code_point;
  }
}

TEST(NormalizerTest, ManyMarks) {
  std::string marks;
  for (int i = 0; i < 10'000; ++i) marks += i % 2 == 0 ? "\u0301" : "\u0323";
  const std::string normalized = Normalized("x" + marks);
  EXPECT_EQ(normalized.size(), 1 + marks.size());
  EXPECT_EQ(normalized.substr(1, 4), "\u0323\u0323");
}

}  // namespace
}  // namespace dpsr
