// The search against scoring and sorting all documents, on every instruction set.

#include "ops_cc/core/bm25/search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "ops_cc/core/bm25/random_catalogue.h"

namespace dpsr {
namespace {

using Weighted = std::vector<std::pair<int32_t, float>>;

struct Answer {
  std::vector<int32_t> rows;
  std::vector<float> scores;
};

std::vector<uint8_t> BitmapOf(const std::vector<bool>& rows) {
  std::vector<uint8_t> bitmap((rows.size() + 7) / 8);
  for (size_t row = 0; row < rows.size(); ++row) bitmap[row / 8] |= (rows[row] ? 1 : 0) << (row % 8);
  return bitmap;
}

Answer Search(Bm25Searcher* searcher, const Bm25Index& index, const Weighted& query, int64_t k,
              const Bm25Filter& filter = {nullptr, nullptr}) {
  std::vector<int32_t> terms;
  std::vector<float> weights;
  for (const auto& [term, weight] : query) {
    terms.push_back(term);
    weights.push_back(weight);
  }
  Answer answer{std::vector<int32_t>(k), std::vector<float>(k)};
  EXPECT_EQ(searcher->Search(index, {terms.data(), weights.data(), static_cast<int64_t>(terms.size())}, filter, k,
                             answer.rows.data(), answer.scores.data()),
            "");
  std::vector<float> again(k);
  EXPECT_EQ(searcher->Score(index, {terms.data(), weights.data(), static_cast<int64_t>(terms.size())},
                            answer.rows.data(), k, again.data()),
            "");
  EXPECT_EQ(again, answer.scores);
  return answer;
}

Answer SortAll(const Scores& scores, int64_t k, const std::vector<bool>& passes) {
  std::vector<int32_t> rows;
  for (size_t row = 0; row < passes.size(); ++row) {
    if (passes[row] && scores.steps[row] > 0) rows.push_back(static_cast<int32_t>(row));
  }
  std::stable_sort(rows.begin(), rows.end(), [&](int32_t a, int32_t b) { return scores.score(a) > scores.score(b); });
  Answer answer{rows, {}};
  answer.rows.resize(k, -1);
  for (const int32_t row : answer.rows) {
    answer.scores.push_back(row < 0 ? 0 : scores.score(row));
  }
  return answer;
}

Weighted DrawQuery(const CatalogueShape& shape, std::mt19937* random) {
  Weighted query;
  const int64_t size = (*random)() % 10 == 0 ? 40 : (*random)() % 7;
  std::uniform_real_distribution<double> uniform(0, 1);
  for (int64_t i = 0; i < size; ++i) {
    const int32_t term = static_cast<int32_t>(shape.terms * std::pow(uniform(*random), 1 + (*random)() % 3));
    query.push_back({(*random)() % 20 == 0 ? -1 : term, (*random)() % 3 == 0 ? 0.5f : 1.0f});
  }
  return query;
}

const std::vector<CatalogueShape> kShapes = {
    {0, 5, 3},
    {1, 1, 2},
    {50, 10, 4},
    {3000, 300, 12},
    {3000, 40, 9, 3, true},
    {40000, 500, 6, 1, false, 5},
    {40000, 200, 3, 2, true, 4, 0.4f, 0},
    {2000, 100, 8, 1, true, 2, 0, 1},
};

TEST(Bm25SearchTest, FindsWhatSortingAllDocumentsFinds) {
  for (const BitKernels* kernels : AllBitKernels()) {
    Bm25Searcher searcher(*kernels);
    for (size_t number = 0; number < kShapes.size(); ++number) {
      const CatalogueShape& shape = kShapes[number];
      RandomCatalogue catalogue(shape, static_cast<int>(number));
      ASSERT_EQ(SourceProblem(catalogue.source), "");
      const BuiltIndex built(catalogue.source);
      const Bm25Index index = built.view();
      ASSERT_EQ(IndexProblem(index), "");
      for (int repeat = 0; repeat < 12; ++repeat) {
        const Weighted query = DrawQuery(shape, &catalogue.random);
        const Scores scores = ScoreAll(catalogue, query);
        const std::vector<bool> all(shape.documents, true);
        for (const int64_t k : {1, 10, 1000}) {
          SCOPED_TRACE(std::string(kernels->name) + ", catalogue " + std::to_string(number) + ", query " +
                       std::to_string(repeat) + ", k " + std::to_string(k));
          const Answer found = Search(&searcher, index, query, k), expected = SortAll(scores, k, all);
          ASSERT_EQ(found.rows, expected.rows);
          ASSERT_EQ(found.scores, expected.scores);
          for (int64_t i = 0; i < k && found.rows[i] >= 0; ++i) {
            const double exact = scores.exact[found.rows[i]];
            ASSERT_NEAR(found.scores[i], exact, 5e-7 * exact + 64 * scores.step);
          }
        }
      }
    }
  }
}

TEST(Bm25SearchTest, FindsAllowedDocumentsAtAnySelectivity) {
  Bm25Searcher searcher;
  const CatalogueShape shape{20000, 60, 6, 1, true};
  RandomCatalogue catalogue(shape, 1);
  const BuiltIndex built(catalogue.source);
  for (const int of_thousand : {1000, 500, 50, 5, 1, 0}) {
    std::vector<bool> allowed, removed, passes;
    for (int64_t row = 0; row < shape.documents; ++row) {
      allowed.push_back(static_cast<int>(catalogue.random() % 1000) < of_thousand);
      removed.push_back(catalogue.random() % 3 == 0);
      passes.push_back(allowed.back() && !removed.back());
    }
    const std::vector<uint8_t> allowed_bits = BitmapOf(allowed), removed_bits = BitmapOf(removed);
    for (int repeat = 0; repeat < 5; ++repeat) {
      const Weighted query = DrawQuery(shape, &catalogue.random);
      const Scores scores = ScoreAll(catalogue, query);
      const Answer found = Search(&searcher, built.view(), query, 100, {allowed_bits.data(), removed_bits.data()});
      ASSERT_EQ(found.rows, SortAll(scores, 100, passes).rows);
      ASSERT_EQ(Search(&searcher, built.view(), query, 100, {allowed_bits.data(), nullptr}).rows,
                SortAll(scores, 100, allowed).rows);
    }
  }
}

TEST(Bm25SearchTest, TiesAreOrderedByRow) {
  Bm25Searcher searcher;
  std::vector<int64_t> offsets = {0};
  std::vector<int32_t> terms;
  for (int i = 0; i < 50000; ++i) {
    terms.insert(terms.end(), i % 2 == 0 ? 2 : 3, i % 2);
    offsets.push_back(static_cast<int64_t>(terms.size()));
  }
  const Bm25Source source = {
      {{offsets.data(), terms.data(), static_cast<int64_t>(terms.size()), 1}}, 50000, 2, 1.2f, 0, nullptr, nullptr, 0};
  const BuiltIndex built(source);
  const Answer even = Search(&searcher, built.view(), {{0, 1}}, 7),
               both = Search(&searcher, built.view(), {{0, 1}, {1, 1}}, 3);
  EXPECT_EQ(even.rows, (std::vector<int32_t>{0, 2, 4, 6, 8, 10, 12}));
  EXPECT_EQ(both.rows, (std::vector<int32_t>{1, 3, 5}));
}

TEST(Bm25SearchTest, TheOrderOfTheTermsChangesNoBit) {
  Bm25Searcher searcher;
  const CatalogueShape shape{5000, 50, 9};
  RandomCatalogue catalogue(shape, 3);
  const BuiltIndex built(catalogue.source);
  Weighted query = {{3, 1}, {17, 0.7f}, {0, 1}, {9, 2}};
  const Answer expected = Search(&searcher, built.view(), query, 500);
  std::sort(query.begin(), query.end());
  const Answer found = Search(&searcher, built.view(), query, 500);
  EXPECT_EQ(found.rows, expected.rows);
  EXPECT_EQ(found.scores, expected.scores);
}

TEST(Bm25SearchTest, ASegmentScoresByTheStatisticsOfTheWhole) {
  Bm25Searcher searcher;
  const CatalogueShape shape{4000, 50, 9};
  RandomCatalogue catalogue(shape, 5);
  const BuiltIndex whole(catalogue.source);
  Bm25Source part = catalogue.source;
  part.num_documents = 1000;
  part.fields[0].num_terms = catalogue.offsets[0][1000];
  part.idf = whole.idf.data();
  part.average_length = whole.average_length;
  const BuiltIndex segment(part);
  const Weighted query = {{4, 1}, {20, 1}, {1, 1}};
  std::vector<uint8_t> first(500, 0);
  std::fill_n(first.begin(), 125, 0xFF);
  const Answer expected = Search(&searcher, whole.view(), query, 300, {first.data(), nullptr});
  const Answer found = Search(&searcher, segment.view(), query, 300);
  EXPECT_EQ(found.rows, expected.rows);
  EXPECT_EQ(found.scores, expected.scores);
}

TEST(Bm25SearchTest, BadQueriesAreNamed) {
  Bm25Searcher searcher;
  RandomCatalogue catalogue({10, 4, 3}, 1);
  const BuiltIndex built(catalogue.source);
  const auto problem = [&](int32_t term, float weight) {
    int32_t row;
    float score;
    return searcher.Search(built.view(), {&term, &weight, 1}, {nullptr, nullptr}, 1, &row, &score);
  };
  EXPECT_EQ(problem(-1, 1), "");
  EXPECT_EQ(problem(4, 1), "term 0 is 4; expected an id below 4, or a negative one where it is unknown");
  EXPECT_NE(problem(0, -1), "");
  EXPECT_NE(problem(0, NAN), "");
  EXPECT_NE(problem(0, INFINITY), "");
  EXPECT_NE(problem(0, 1e38f), "");
  const int32_t term = 0, row = 10;
  const float weight = 1;
  float score;
  EXPECT_EQ(searcher.Score(built.view(), {&term, &weight, 1}, &row, 1, &score),
            "row 0 is 10; expected one below 10, or -1 for none");
}

// Whatever the arrays hold, a search stays inside them, and leaves nothing behind for the next one.
TEST(Bm25SearchTest, DamagedIndexesAreSurvived) {
  Bm25Searcher searcher;
  const CatalogueShape shape{20000, 30, 5, 2, true};
  RandomCatalogue catalogue(shape, 7);
  const BuiltIndex good(catalogue.source);
  const Weighted query = {{0, 1}, {3, 1}, {11, 1}, {29, 0.5f}};
  const Answer expected = Search(&searcher, good.view(), query, 50);
  std::vector<int32_t> terms(30);
  std::iota(terms.begin(), terms.end(), 0);
  const std::vector<float> weights(30, 1.0f);
  std::mt19937& random = catalogue.random;
  for (int repeat = 0; repeat < 300; ++repeat) {
    BuiltIndex bad = good;
    const auto damage = [&](auto* array) {
      for (size_t i = 0; i < 1 + array->size() / 50; ++i) {
        auto& value = (*array)[random() % array->size()];
        const uint64_t bits = uint64_t{random()} << 32 | random();
        std::memcpy(&value, &bits, sizeof(value));
      }
    };
    switch (repeat % 10) {
      case 0:
        damage(&bad.rows);
        break;
      case 1:
        damage(&bad.places);
        break;
      case 2:
        damage(&bad.priors);
        break;
      case 3:
        damage(&bad.range_values);
        break;
      case 4:
        damage(&bad.idf);
        break;
      case 5:
        damage(&bad.term_lists);
        break;
      case 6:
        damage(&bad.list_weights);
        break;
      case 7:
        damage(&bad.list_starts);
        break;
      case 8:
        damage(&bad.entries);
        break;
      case 9:
        damage(&bad.postings);
        break;
    }
    if (!IndexProblem(bad.view()).empty()) continue;
    std::vector<int32_t> rows(50);
    std::vector<float> scores(50);
    for (const int64_t size : {1, 4, 30}) {
      const Bm25Query some = {terms.data(), weights.data(), size};
      searcher.Search(bad.view(), some, {nullptr, nullptr}, 50, rows.data(), scores.data());
      std::iota(rows.begin(), rows.end(), repeat);
      searcher.Score(bad.view(), some, rows.data(), 50, scores.data());
    }
    ASSERT_EQ(Search(&searcher, good.view(), query, 50).rows, expected.rows) << repeat;
  }
}

}  // namespace
}  // namespace dpsr
