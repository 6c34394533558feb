#include "tokenizer_cc/core/terms/model_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <type_traits>

#include "tokenizer_cc/core/terms/term_tokenizer.h"
#include "tokenizer_cc/core/terms/vocabulary_builder.h"

namespace dpsr {
namespace {

ModelBytes GoodModel() {
  TermVocabularyBuilder builder({true, 1, 1});
  builder.Add({{"steel door", "steel doors boards 12", "手机"}});
  ModelBytes model;
  EXPECT_EQ(builder.Build(&model), "");
  return model;
}

std::string ProblemOf(const std::string& content) { return CheckTermModel(ModelBytes(content)); }

TEST(TermModelFileTest, EveryPrefixIsTruncated) {
  const std::string content(GoodModel().view());
  EXPECT_EQ(ProblemOf(content), "");
  EXPECT_NE(ProblemOf("").find("the file is empty"), std::string::npos);
  for (size_t size = 1; size < content.size(); size += 3) {
    EXPECT_NE(ProblemOf(content.substr(0, size)).find("truncated"), std::string::npos) << size;
  }
}

TEST(TermModelFileTest, EveryChangedByteIsFound) {
  const std::string content(GoodModel().view());
  for (size_t i = 0; i < content.size(); ++i) {
    std::string changed = content;
    changed[i] = static_cast<char>(changed[i] ^ 1 << i % 8);
    EXPECT_NE(ProblemOf(changed), "") << i;
  }
}

template <class T>
T* At(const TermSections& model, TermSection section) {
  return const_cast<T*>(model.data<T>(section));
}

TEST(TermModelFileTest, ImpossibleContentIsFoundUnderARightChecksum) {
  const auto problem = [](const std::function<void(TermHeader*, const TermSections&)>& change) {
    ModelBytes model = GoodModel();
    change(reinterpret_cast<TermHeader*>(model.data()), TermSections(model));
    Sign(kTermFile, &model);
    return CheckTermModel(model);
  };
  EXPECT_EQ(problem([](auto*, const auto&) {}), "");
  EXPECT_NE(problem([](auto* header, const auto&) { header->num_terms = 5; }), "");
  EXPECT_NE(problem([](auto* header, const auto&) { header->num_terms = UINT32_MAX; }), "");
  EXPECT_NE(problem([](auto* header, const auto&) { header->section_bytes[kTermTexts] = UINT64_MAX; }), "");
  EXPECT_NE(problem([](auto* header, const auto&) { header->section_bytes[kTermTexts] = 0; }), "");
  EXPECT_NE(problem([](auto* header, const auto&) {
              header->section_bytes[kTermPostings] += header->section_bytes[kTermSlots];
              header->section_bytes[kTermSlots] = 0;
            }),
            "");
  EXPECT_NE(problem([](auto* header, const auto&) { header->rules_version = 9; }).find("rules 9"), std::string::npos);
  EXPECT_NE(problem([](auto* header, const auto&) { header->unicode_version[0] = '9'; }), "");
  EXPECT_NE(problem([](auto*, const auto& model) { At<uint32_t>(model, kTermTextBegin)[1] = 1000; }), "");
  EXPECT_NE(problem([](auto*, const auto& model) { At<TermSlot>(model, kTermSlots)[0].place = 99; }), "");
  EXPECT_NE(problem([](auto*, const auto& model) { At<uint32_t>(model, kTermLetters)[0] = 0x110000; }), "");
  EXPECT_NE(problem([](auto*, const auto& model) { At<uint32_t>(model, kTermPostingBegin)[1] = 1000; }), "");
  EXPECT_NE(problem([](auto*, const auto& model) { At<int32_t>(model, kTermPostings)[0] = 99; }), "");
  EXPECT_NE(problem([](auto*, const auto& model) { At<int32_t>(model, kTermPostings)[0] = -1; }), "");
  EXPECT_NE(problem([](auto*, const auto& model) {
              for (size_t i = 0; i < model.template size<TermSlot>(kTermSlots); ++i) {
                At<TermSlot>(model, kTermSlots)[i].place = 1;  // no slot is empty
              }
            }),
            "");
}

// What passes the checks can be used, whatever it means.
TEST(TermModelFileTest, DamageUnderARightChecksumIsRefusedOrHarmless) {
  const ModelBytes good = GoodModel();
  std::mt19937 random(1);
  int usable = 0;
  for (int round = 0; round < 3000; ++round) {
    ModelBytes model(good.view());
    for (uint32_t changes = 1 + random() % 3; changes > 0; --changes) {
      const size_t at = sizeof(FileHeader) + random() % (model.size() - sizeof(FileHeader));
      model.data()[at] = static_cast<uint8_t>(random() % 4 == 0 ? random() : model.data()[at] ^ 1 << random() % 8);
    }
    Sign(kTermFile, &model);
    std::string error;
    const auto tokenizer = TermTokenizer::FromBytes(std::move(model), &error);
    EXPECT_EQ(tokenizer == nullptr, !error.empty());
    if (tokenizer == nullptr) continue;
    ++usable;
    TermTokenizer::Workspace workspace;
    Buffer<int32_t> ids;
    Buffer<float> weights;
    for (const std::string_view text : {"steel doors 12", "stel boadrs steedoor", "st3el boardsandmore 手"}) {
      tokenizer->EncodeQuery(text, &workspace, &ids, &weights);
    }
    for (size_t i = 0; i < ids.size(); ++i) EXPECT_LT(ids.data()[i], tokenizer->num_terms());
  }
  EXPECT_GT(usable, 100);
}

}  // namespace
}  // namespace dpsr
