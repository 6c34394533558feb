#include "tokenizer_cc/core/subwords/model_file.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "tokenizer_cc/core/subwords/specs.h"

namespace dpsr {
namespace {

ModelBytes GoodModel(const SubwordSpec& spec = BpeSpec()) {
  ModelBytes model;
  EXPECT_EQ(BuildSubwordModel(spec, &model), "");
  return model;
}

TEST(SubwordModelFileTest, GoodModelsHaveNoProblem) {
  for (const SubwordSpec& spec : {WordPieceSpec(), UnigramSpec(), BpeSpec()}) {
    EXPECT_EQ(CheckSubwordModel(GoodModel(spec)), "");
  }
}

TEST(SubwordModelFileTest, EveryPrefixIsTruncated) {
  const ModelBytes model = GoodModel();
  EXPECT_NE(CheckSubwordModel(ModelBytes(std::string_view())).find("the file is empty"), std::string::npos);
  for (size_t size = 1; size < model.size(); size += size < 300 ? 1 : 97) {
    EXPECT_NE(CheckSubwordModel(ModelBytes(model.view().substr(0, size))).find("truncated"), std::string::npos) << size;
  }
}

TEST(SubwordModelFileTest, FlippedBitsAreFound) {
  const ModelBytes model = GoodModel();
  for (size_t bit = 0; bit < 8 * model.size(); bit += bit < 2000 ? 1 : 61) {
    ModelBytes flipped(model.view());
    flipped.data()[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    EXPECT_NE(CheckSubwordModel(flipped), "") << bit;
  }
}

TEST(SubwordModelFileTest, AnotherKindOfFileIsNamed) {
  const std::string content(300, 'x');
  EXPECT_NE(CheckSubwordModel(ModelBytes(content)).find("not a subword model"), std::string::npos);
}

TEST(SubwordModelFileTest, ImpossibleContentIsFoundUnderARightChecksum) {
  const auto problem = [](const std::function<void(SubwordHeader*, const SubwordSections&)>& change) {
    ModelBytes model = GoodModel();
    change(reinterpret_cast<SubwordHeader*>(model.data()), SubwordSections(model));
    Sign(kSubwordFile, &model);
    return CheckSubwordModel(model);
  };
  const auto at = [](const SubwordSections& model, SubwordSection section, auto* type) {
    return const_cast<decltype(type)>(model.data<std::remove_pointer_t<decltype(type)>>(section));
  };
  EXPECT_EQ(problem([](auto*, const auto&) {}), "");
  EXPECT_NE(problem([](auto* header, const auto&) { header->num_ids = 5; }), "");
  EXPECT_NE(problem([](auto* header, const auto&) { header->kind = static_cast<SubwordKind>(3); }), "");
  EXPECT_NE(problem([](auto* header, const auto&) { header->kind = SubwordKind::kUnigram; }), "");
  EXPECT_NE(problem([](auto* header, const auto&) { header->roles[kMask] = 13; }), "");
  EXPECT_NE(problem([](auto* header, const auto&) { header->section_bytes[kNames] = UINT64_MAX; }), "");
  EXPECT_NE(problem([](auto* header, const auto&) { header->rules_version = 9; }).find("rules 9"), std::string::npos);
  EXPECT_NE(problem([](auto* header, const auto&) { header->library_version[0] = '9'; }), "");
  EXPECT_NE(problem([&](auto*, const auto& model) { at(model, kNameBegin, (uint64_t*)nullptr)[1] = 1000; }), "");
  EXPECT_NE(problem([&](auto*, const auto& model) { at(model, kPieces, (TrieUnit*)nullptr)[0].base = 1 << 30; }), "");
  EXPECT_NE(problem([&](auto*, const auto& model) { at(model, kPieces, (TrieUnit*)nullptr)[9].value = 99; }), "");
  EXPECT_NE(problem([&](auto*, const auto& model) { at(model, kAdded, (AddedToken*)nullptr)[0].id = -1; }), "");
  EXPECT_NE(problem([&](auto*, const auto& model) { at(model, kSteps, (Step*)nullptr)[0].first_size = 99; }), "");
  EXPECT_NE(problem([&](auto*, const auto& model) { at(model, kSteps, (Step*)nullptr)[0].kind = StepKind(99); }), "");
  EXPECT_NE(problem([&](auto*, const auto& model) {
              for (size_t i = 0; i < model.template size<Merge>(kMerges); ++i) {
                at(model, kMerges, (Merge*)nullptr)[i].left = 0;  // no slot is empty
              }
            }),
            "");
}

}  // namespace
}  // namespace dpsr
