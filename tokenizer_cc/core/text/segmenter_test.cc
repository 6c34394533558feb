#include "tokenizer_cc/core/text/segmenter.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace dpsr {
namespace {

using Words = std::vector<std::string>;

Words WordsOf(std::string_view text) {
  Segmenter segmenter;
  segmenter.Segment(text);
  Words words;
  for (const Word& word : segmenter.words()) words.emplace_back(segmenter.view(word));
  return words;
}

TEST(SegmenterTest, Ascii) {
  EXPECT_EQ(WordsOf(""), Words{});
  EXPECT_EQ(WordsOf(" -- "), Words{});
  EXPECT_EQ(WordsOf("XL-2000 mw3"), (Words{"xl", "2000", "mw3"}));
  EXPECT_EQ(WordsOf("1.9 3/4 1/2/3 v1.2"), (Words{"1.9", "3/4", "1/2/3", "v1.2"}));
  EXPECT_EQ(WordsOf(".5 5. 1..2 1./2 a.1 1.a"), (Words{"5", "5", "1", "2", "1", "2", "a", "1", "1", "a"}));
}

TEST(SegmenterTest, Scripts) {
  EXPECT_EQ(WordsOf("abcпривет1"), (Words{"abc", "привет1"}));
  EXPECT_EQ(WordsOf("1привет"), Words{"1привет"});
  EXPECT_EQ(WordsOf("手机case"), (Words{"手", "机", "case"}));
  EXPECT_EQ(WordsOf("カー か"), (Words{"カ", "ー", "か"}));
  EXPECT_EQ(WordsOf("한국어 한국"), (Words{"한국어", "한국"}));
  EXPECT_EQ(WordsOf("٢٠واط"), Words{"٢٠واط"});
}

TEST(SegmenterTest, MarksStayWithTheirWord) {
  EXPECT_EQ(WordsOf("x\u0323y"), Words{"x\u0323y"});
  EXPECT_EQ(WordsOf(" \u0323 y"), Words{"y"});
  EXPECT_EQ(WordsOf("手\u0323机"), (Words{"手\u0323", "机"}));
  EXPECT_EQ(WordsOf("1\u0323.5"), (Words{"1\u0323", "5"}));
}

TEST(SegmenterTest, DropsWhatIsInvisible) {
  EXPECT_EQ(WordsOf("soft\u00adware 1\u00ad.\u00ad5 a\u200bb"), (Words{"software", "1.5", "a", "b"}));
  EXPECT_EQ(WordsOf("👍🏽❤️"), (Words{"👍", "❤"}));
  EXPECT_EQ(WordsOf("½ x"), (Words{"1/2", "x"}));
}

TEST(SegmenterTest, Flags) {
  Segmenter segmenter;
  segmenter.Segment("abc 12 naïve жук 手");
  std::vector<std::pair<bool, bool>> flags;
  for (const Word& word : segmenter.words()) flags.emplace_back(word.latin, word.ascii);
  EXPECT_EQ(flags, (std::vector<std::pair<bool, bool>>{
                       {true, true}, {false, true}, {true, false}, {false, false}, {false, false}}));
}

TEST(SegmenterTest, AsciiIsCutTheSameOnBothWays) {
  // A leading ideograph sends the rest of the text the long way.
  for (const std::string text : {"XL-2000 1.9a/3 .5", "a.b 1.a 1..2", "1/2/3.", "x", "9.", "a1.2b"}) {
    Words expected{"手"};
    for (const std::string& word : WordsOf(text)) expected.push_back(word);
    EXPECT_EQ(WordsOf("手" + text), expected);
  }
}

TEST(SegmenterTest, IsReused) {
  Segmenter segmenter;
  segmenter.Segment("one two 手机");
  segmenter.Segment("three");
  ASSERT_EQ(segmenter.words().size(), 1u);
  EXPECT_EQ(segmenter.view(segmenter.words()[0]), "three");
}

}  // namespace
}  // namespace dpsr
