#include "ops_cc/core/row_search/row_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

namespace dpsr {
namespace {

struct Drawn {
  Drawn(int64_t num_rows, int64_t width, int64_t num_heads, std::mt19937* random) {
    std::uniform_int_distribution<int> number(-12, 12);  // small numbers: sums are exact, and many scores equal
    for (int64_t i = 0; i < num_rows * width; ++i) {
      bytes.push_back(static_cast<int8_t>(number(*random)));
      floats.push_back(bytes.back());
    }
    for (int64_t i = 0; i < num_heads * width; ++i) heads.push_back(static_cast<float>(number(*random)));
  }
  std::vector<float> floats, heads;
  std::vector<int8_t> bytes;
};

std::vector<ScoredRow> Oracle(const Drawn& drawn, int64_t width, int64_t num_heads, const std::vector<int32_t>& rows) {
  std::vector<ScoredRow> found;
  for (const int32_t row : rows) {
    ScoredRow best{-1e30f, row, 0};
    for (int32_t head = 0; head < num_heads; ++head) {
      double sum = 0.0;
      for (int64_t i = 0; i < width; ++i) sum += drawn.heads[head * width + i] * drawn.floats[row * width + i];
      if (static_cast<float>(sum) > best.score) best = {static_cast<float>(sum), row, head};
    }
    found.push_back(best);
  }
  return found;
}

TEST(RowSearchTest, EveryInstructionSetScoresAsTheOracle) {
  std::mt19937 random(1);
  for (const int64_t width : {1, 7, 16, 33, 64, 100}) {
    for (const int64_t num_heads : {1, 2, 3}) {
      const Drawn drawn(60, width, num_heads, &random);
      std::vector<int32_t> rows(60);
      std::iota(rows.begin(), rows.end(), 0);
      std::shuffle(rows.begin(), rows.end(), random);
      const std::vector<ScoredRow> expected = Oracle(drawn, width, num_heads, rows);
      std::vector<ScoredRow> of_floats(60), of_bytes(60);
      for (const RowKernels* kernels : AllRowKernels()) {
        kernels->score_floats(drawn.floats.data(), width, rows.data(), 60, drawn.heads.data(), num_heads,
                              of_floats.data());
        kernels->score_bytes(drawn.bytes.data(), width, rows.data(), 60, drawn.heads.data(), num_heads,
                             of_bytes.data());
        for (size_t i = 0; i < rows.size(); ++i) {
          for (const ScoredRow& found : {of_floats[i], of_bytes[i]}) {
            ASSERT_EQ(found.score, expected[i].score) << kernels->name;
            ASSERT_EQ(found.row, expected[i].row) << kernels->name;
            ASSERT_EQ(found.head, expected[i].head) << kernels->name;
          }
        }
      }
    }
  }
}

TEST(RowSearchTest, KeepsTheBest) {
  std::mt19937 random(2);
  RowSearch search;
  for (const int64_t count : {0, 1, 50, 1024, 5000}) {
    const Drawn drawn(5000, 3, 2, &random);
    std::vector<int32_t> rows(5000);
    std::iota(rows.begin(), rows.end(), 0);
    std::shuffle(rows.begin(), rows.end(), random);
    rows.resize(static_cast<size_t>(count));
    std::vector<ScoredRow> expected = Oracle(drawn, 3, 2, rows);
    std::sort(expected.begin(), expected.end(), [](const ScoredRow& a, const ScoredRow& b) {
      return a.score != b.score ? a.score > b.score : a.row < b.row;
    });
    for (const int64_t k : {1, 20, 700, 6000}) {
      const std::vector<ScoredRow>& found =
          search.Search({drawn.floats.data(), nullptr, 3}, rows.data(), count, drawn.heads.data(), 2, k);
      ASSERT_EQ(found.size(), std::min<size_t>(static_cast<size_t>(k), rows.size()));
      for (size_t i = 0; i < found.size(); ++i) {
        ASSERT_EQ(found[i].row, expected[i].row);
        ASSERT_EQ(found[i].score, expected[i].score);
      }
    }
  }
}

}  // namespace
}  // namespace dpsr
