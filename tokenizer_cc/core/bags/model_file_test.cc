#include "tokenizer_cc/core/bags/model_file.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <functional>
#include <string>

#include "tokenizer_cc/core/bags/tokenizer.h"
#include "tokenizer_cc/core/bags/vocabulary.h"

namespace dpsr {
namespace {

std::string GoodModel() {
  ModelBytes model;
  EXPECT_EQ(WriteModel({10, 1, 3, true, true}, {{"a", Kind::kWord, 5}, {"#a#", Kind::kTrigram, 5}}, 7, &model), "");
  return std::string(model.view());
}

// Makes the checksum right again after a change that should be found by what it means.
void Sign(std::string* content) {
  const Checksum checksum = ComputeChecksum(reinterpret_cast<const uint8_t*>(content->data()) + sizeof(FileHeader),
                                            content->size() - sizeof(FileHeader));
  const uint64_t words[2] = {checksum.high, checksum.low};
  std::memcpy(content->data() + offsetof(ModelHeader, checksum), words, sizeof(words));
}

std::string ProblemOf(const std::string& content) { return CheckModel(ModelBytes(content)); }

TEST(ModelFileTest, AGoodModelHasNoProblem) { EXPECT_EQ(ProblemOf(GoodModel()), ""); }

TEST(ModelFileTest, EveryPrefixIsTruncated) {
  const std::string content = GoodModel();
  EXPECT_NE(ProblemOf("").find("the file is empty"), std::string::npos);
  for (size_t size = 1; size < content.size(); ++size) {
    EXPECT_NE(ProblemOf(content.substr(0, size)).find("truncated"), std::string::npos) << size;
  }
}

TEST(ModelFileTest, EveryFlippedBitIsFound) {
  const std::string content = GoodModel();
  for (size_t bit = 0; bit < 8 * content.size(); ++bit) {
    std::string flipped = content;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ 1 << bit % 8);
    EXPECT_NE(ProblemOf(flipped), "") << bit;
  }
}

TEST(ModelFileTest, ImpossibleContentIsFoundUnderARightChecksum) {
  const std::string content = GoodModel();
  const auto problem = [&](const std::function<void(ModelHeader*, ModelSections*)>& change) {
    ModelBytes model{content};
    ModelSections sections = LocateSections(model);
    change(reinterpret_cast<ModelHeader*>(model.data()), &sections);
    std::string changed(model.view());
    Sign(&changed);
    return ProblemOf(changed);
  };
  EXPECT_EQ(problem([](auto*, auto*) {}), "");
  EXPECT_NE(problem([](auto* header, auto*) { header->vocabulary_size = 3; }), "");
  EXPECT_NE(problem([](auto* header, auto*) { header->vocabulary_size = UINT64_MAX / 16; }), "");
  EXPECT_NE(problem([](auto* header, auto*) { header->texts_bytes = UINT64_MAX - 6; }), "");
  EXPECT_NE(problem([](auto* header, auto*) { header->oov_buckets = 0; }), "");
  EXPECT_NE(problem([](auto* header, auto*) { header->table_capacity[kBigrams] = 0; }), "");
  EXPECT_NE(problem([](auto* header, auto*) { header->table_capacity[kBigrams] = UINT64_MAX / 4; }), "");
  EXPECT_NE(problem([](auto* header, auto*) { header->rules_version = 9; }).find("rules 9"), std::string::npos);
  EXPECT_NE(problem([](auto* header, auto*) { header->unicode_version[0] = '9'; }), "");
  EXPECT_NE(problem([](auto*, auto* sections) {
              const_cast<TableSlot*>(sections->tables[kBigrams])[0].id = 1;  // no slot is empty
            }),
            "");
  EXPECT_NE(problem([](auto*, auto* sections) { const_cast<TableSlot*>(sections->tables[kShortWords])[0].id = 99; }),
            "");
  EXPECT_NE(problem([](auto*, auto* sections) { const_cast<uint64_t*>(sections->text_begin)[1] = 1000; }), "");
  EXPECT_NE(problem([](auto*, auto* sections) { const_cast<uint8_t*>(sections->kinds)[0] = 3; }), "");
}

TEST(ModelFileTest, ReadSaysWhatTheSystemSays) {
  ModelBytes model;
  EXPECT_EQ(ModelBytes::Read("/nonexistent/tokenizer.model", &model), "No such file or directory");
  EXPECT_EQ(ModelBytes::Read("/", &model), "not a regular file");
}

}  // namespace
}  // namespace dpsr
