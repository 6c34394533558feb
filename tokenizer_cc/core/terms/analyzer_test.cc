#include "tokenizer_cc/core/terms/analyzer.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace dpsr {
namespace {

std::vector<std::string> Analyze(std::string_view text) {
  TermAnalyzer analyzer;
  analyzer.Analyze(text);
  std::vector<std::string> terms;
  for (const Term& term : analyzer.terms()) terms.emplace_back(analyzer.view(term));
  return terms;
}

using Terms = std::vector<std::string>;

TEST(TermAnalyzerTest, LettersPartFromDigits) {
  EXPECT_EQ(Analyze("Xbox360 4ft 1.5Ah 33x22"), (Terms{"xbox", "360", "4", "ft", "1.5", "ah", "33", "x", "22"}));
  EXPECT_EQ(Analyze("1/2 1.9.3 1. .5"), (Terms{"1/2", "1.9.3", "1", "5"}));
  EXPECT_EQ(Analyze("50мл ٢.٥ ١a"), (Terms{"50", "мл", "٢.٥", "١", "a"}));
}

TEST(TermAnalyzerTest, PluralsLoseTheirS) {
  EXPECT_EQ(Analyze("sinks glass bus its cafés as ös öös öööS"),
            (Terms{"sink", "glass", "bus", "its", "café", "as", "ös", "öös", "ööö"}));
  EXPECT_EQ(Analyze("12volts ss sss ssss"), (Terms{"12", "volt", "ss", "sss", "ssss"}));
}

TEST(TermAnalyzerTest, UnitsAndMarks) {
  EXPECT_EQ(Analyze("手机 👍 ワ"), (Terms{"手", "机", "👍", "ワ"}));
  EXPECT_EQ(Analyze("👍\u0301 x\u0301y"), (Terms{"👍\u0301", "x", "y"}));
  EXPECT_EQ(Analyze(""), Terms{});
  EXPECT_EQ(Analyze("\xff\xfe - ."), Terms{});
}

TEST(TermAnalyzerTest, TermsKnowTheirWords) {
  TermAnalyzer analyzer;
  analyzer.Analyze("boards2u ４x手");
  std::vector<bool> letters, new_word;
  for (const Term& term : analyzer.terms()) {
    letters.push_back(term.letters);
    new_word.push_back(term.new_word);
  }
  EXPECT_EQ(letters, (std::vector<bool>{true, false, true, false, true, true}));
  EXPECT_EQ(new_word, (std::vector<bool>{true, false, false, true, false, true}));
  EXPECT_EQ(analyzer.view(analyzer.terms()[0]), "board");
  EXPECT_EQ(analyzer.unstemmed(analyzer.terms()[0]), "boards");
  EXPECT_EQ(analyzer.unstemmed(analyzer.terms()[2]), "u");
}

TEST(TermAnalyzerTest, CountsLetters) {
  EXPECT_EQ(CountLetters("kühl"), 4u);
  EXPECT_EQ(CountLetters("手"), 1u);
  EXPECT_EQ(CountLetters("a1"), 0u);
  EXPECT_EQ(CountLetters("👍"), 0u);
  EXPECT_EQ(CountLetters(""), 0u);
}

}  // namespace
}  // namespace dpsr
