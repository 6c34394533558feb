// Lookup and update of embedding bags against plain loops in float64.

#include "ops_cc/core/embedding_bag.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <random>
#include <vector>

namespace dpsr {
namespace {

constexpr int64_t kDimension = 19;  // no multiple of any number of lanes
constexpr Combiner kCombiners[] = {Combiner::kSum, Combiner::kMean, Combiner::kSqrtN};

// Arrays that `Bags` points into, drawn at random: every third bag is empty, and rows repeat.
struct RandomBags {
  std::vector<int32_t> values;
  std::vector<int64_t> splits = {0};
  std::vector<float> weights;
  std::vector<float> gradient;

  RandomBags(std::mt19937* random, int64_t num_bags, int32_t rows) {
    std::uniform_int_distribution<int32_t> row(0, rows - 1);
    std::uniform_real_distribution<float> weight(0.5f, 2.0f);
    for (int64_t bag = 0; bag < num_bags; ++bag) {
      for (int64_t i = 0; bag % 3 != 0 && i < 1 + bag % 7; ++i) {
        values.push_back(i % 2 == 1 ? values.back() : row(*random));
        weights.push_back(weight(*random));
      }
      splits.push_back(static_cast<int64_t>(values.size()));
    }
    for (int64_t i = 0; i < num_bags * kDimension; ++i) gradient.push_back(weight(*random) - 1.0f);
  }

  Bags View(Combiner combiner, bool weighted) const {
    return {values.data(),
            splits.data(),
            weighted ? weights.data() : nullptr,
            static_cast<int64_t>(values.size()),
            static_cast<int64_t>(splits.size()) - 1,
            combiner};
  }
};

std::vector<float> RandomTable(std::mt19937* random, int64_t rows, float low, float high) {
  std::uniform_real_distribution<float> value(low, high);
  std::vector<float> table(rows * kDimension);
  for (float& entry : table) entry = value(*random);
  return table;
}

// The factor of an occurrence in its combined bag, in float64.
double Factor(const Bags& bags, int64_t bag, int64_t occurrence) {
  double sum = 0.0, squares = 0.0;
  for (int64_t i = bags.splits[bag]; i < bags.splits[bag + 1]; ++i) {
    const double weight = bags.weights == nullptr ? 1.0 : bags.weights[i];
    sum += weight;
    squares += weight * weight;
  }
  const double weight = bags.weights == nullptr ? 1.0 : bags.weights[occurrence];
  return bags.combiner == Combiner::kSum    ? weight
         : bags.combiner == Combiner::kMean ? weight / sum
                                            : weight / std::sqrt(squares);
}

TEST(CombinerTest, ReadsItsNames) {
  EXPECT_EQ(CombinerOf("sum"), Combiner::kSum);
  EXPECT_EQ(CombinerOf("mean"), Combiner::kMean);
  EXPECT_EQ(CombinerOf("sqrtn"), Combiner::kSqrtN);
}

TEST(CombineBagsTest, IsTheScaledSumOfTheRows) {
  std::mt19937 random(1);
  constexpr int32_t kRows = 50;
  const RandomBags drawn(&random, 40, kRows);
  const std::vector<float> table = RandomTable(&random, kRows, -1.0f, 1.0f);
  for (const Combiner combiner : kCombiners) {
    for (const bool weighted : {false, true}) {
      const Bags bags = drawn.View(combiner, weighted);
      ASSERT_EQ(BagsProblem(bags, kRows), "");
      std::vector<float> combined(bags.num_bags * kDimension, 7.0f);
      CombineBags(table.data(), kDimension, bags, 0, bags.num_bags, combined.data());
      for (int64_t bag = 0; bag < bags.num_bags; ++bag) {
        for (int64_t j = 0; j < kDimension; ++j) {
          double expected = 0.0;
          for (int64_t i = bags.splits[bag]; i < bags.splits[bag + 1]; ++i) {
            expected += Factor(bags, bag, i) * table[bags.values[i] * kDimension + j];
          }
          ASSERT_NEAR(combined[bag * kDimension + j], expected, 1e-5) << "bag " << bag << ", column " << j;
        }
      }
      std::vector<float> shared(combined.size());
      for (int64_t bag = bags.num_bags; bag-- > 0;) {
        CombineBags(table.data(), kDimension, bags, bag, bag + 1, shared.data());
      }
      EXPECT_EQ(shared, combined) << "bags combined one by one, the last first";
    }
  }
}

// A table that is numbered by places, and one so large that it is numbered by hashes.
class RowGradientsTest : public testing::TestWithParam<int32_t> {};

TEST_P(RowGradientsTest, AppliesOneAdagradStepToEveryRowThatOccurs) {
  const int32_t rows = GetParam();
  std::mt19937 random(2);
  const RandomBags first(&random, 40, rows), second(&random, 25, rows);
  const std::vector<BagsWithGradient> lists = {{first.View(Combiner::kSqrtN, true), first.gradient.data()},
                                               {second.View(Combiner::kMean, false), second.gradient.data()}};
  const std::vector<float> table = RandomTable(&random, rows, -1.0f, 1.0f);
  const std::vector<float> accumulator = RandomTable(&random, rows, 0.1f, 1.0f);
  constexpr float kRate = 0.1f;

  std::map<int32_t, std::vector<double>> sums;
  for (const BagsWithGradient& list : lists) {
    for (int64_t bag = 0; bag < list.bags.num_bags; ++bag) {
      for (int64_t i = list.bags.splits[bag]; i < list.bags.splits[bag + 1]; ++i) {
        std::vector<double>& sum = sums.try_emplace(list.bags.values[i], kDimension, 0.0).first->second;
        for (int64_t j = 0; j < kDimension; ++j) {
          sum[j] += Factor(list.bags, bag, i) * list.gradient[bag * kDimension + j];
        }
      }
    }
  }
  std::vector<double> new_table(table.begin(), table.end()), new_accumulator(accumulator.begin(), accumulator.end());
  for (const auto& [row, sum] : sums) {
    for (int64_t j = 0; j < kDimension; ++j) {
      const int64_t at = row * kDimension + j;
      new_accumulator[at] += sum[j] * sum[j];
      new_table[at] -= kRate * sum[j] / std::sqrt(new_accumulator[at]);
    }
  }

  RowGradients gradients;
  std::vector<float> whole_table, whole_accumulator;
  for (const int64_t step : {int64_t{1} << 40, int64_t{10}, int64_t{1}}) {  // also: the working memory is used again
    gradients.Group(lists, rows, kDimension);
    ASSERT_EQ(gradients.rows().size(), sums.size());
    ASSERT_EQ(gradients.num_occurrences(), lists[0].bags.num_values + lists[1].bags.num_values);
    std::vector<float> updated = table, squares = accumulator;
    for (int64_t from = 0; from < gradients.num_occurrences(); from += step) {
      gradients.ApplyAdagrad(from, std::min(from + step, gradients.num_occurrences()), kRate, updated.data(),
                             squares.data());
    }
    for (size_t i = 0; i < updated.size(); ++i) {
      ASSERT_NEAR(updated[i], new_table[i], 1e-5) << "entry " << i << ", shares of " << step;
      ASSERT_NEAR(squares[i], new_accumulator[i], 1e-4) << "entry " << i << ", shares of " << step;
    }
    if (whole_table.empty()) {
      whole_table = updated;
      whole_accumulator = squares;
    }
    EXPECT_EQ(updated, whole_table) << "shares of " << step;
    EXPECT_EQ(squares, whole_accumulator) << "shares of " << step;
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, RowGradientsTest, testing::Values(30, 100'000));

TEST(RowGradientsOfNothingTest, HasNoRowsWithoutBags) {
  const int64_t splits[] = {0};
  const Bags none{nullptr, splits, nullptr, 0, 0, Combiner::kSum};
  RowGradients gradients;
  gradients.Group({{none, nullptr}}, 10, kDimension);
  EXPECT_TRUE(gradients.rows().empty());
  gradients.ApplyAdagrad(0, gradients.num_occurrences(), 0.1f, nullptr, nullptr);
}

TEST(BagsProblemTest, NamesThePlace) {
  const int32_t values[] = {3, 0, 9};
  const auto problem = [&](std::vector<int64_t> splits, int64_t rows) {
    return BagsProblem({values, splits.data(), nullptr, 3, static_cast<int64_t>(splits.size()) - 1, Combiner::kSum},
                       rows);
  };
  EXPECT_EQ(problem({0, 1, 3}, 10), "");
  EXPECT_EQ(problem({0, 1, 3}, 9), "values[2] = 9 is not a row of a table of 9 rows");
  EXPECT_EQ(problem({0, 2, 1, 3}, 10), "row_splits decrease at bag 1");
  EXPECT_EQ(problem({1, 3}, 10), "row_splits go from 1 to 3; expected 0 to 3, the number of values");
  EXPECT_EQ(problem({0, 2}, 10), "row_splits go from 0 to 2; expected 0 to 3, the number of values");
  const int32_t negative[] = {-1};
  const int64_t one[] = {0, 1};
  EXPECT_EQ(BagsProblem({negative, one, nullptr, 1, 1, Combiner::kSum}, 10),
            "values[0] = -1 is not a row of a table of 10 rows");
}

TEST(WeighByKindTest, CountsEachKindOfABagAlike) {
  const uint8_t kinds[] = {0, 0, 1, 2, 2};
  const int32_t values[] = {0, 1, 2, 3, 4, 4, 0};
  const int64_t splits[] = {0, 6, 6, 7};
  float weights[7];
  ASSERT_EQ(WeighByKind(kinds, 5, values, splits, 3, 7, weights), "");
  const double expected[] = {std::sqrt(0.5),       std::sqrt(0.5),       1.0, std::sqrt(1.0 / 3.0),
                             std::sqrt(1.0 / 3.0), std::sqrt(1.0 / 3.0), 1.0};
  for (int i = 0; i < 7; ++i) EXPECT_NEAR(weights[i], expected[i], 1e-6) << i;
  EXPECT_EQ(WeighByKind(kinds, 4, values, splits, 3, 7, weights), "values[4] = 4 has no kind: there are 4 ids");
  EXPECT_EQ(WeighByKind(kinds, 5, values, splits, 3, 6, weights),
            "row_splits go from 0 to 7; expected 0 to 6, the number of values");
}

}  // namespace
}  // namespace dpsr
