#include "ops_cc/core/fusion/fusion.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <vector>

namespace dpsr {
namespace {

struct DrawnList {
  std::vector<int32_t> rows;
  std::vector<float> scores;

  RankedList View() const { return {rows.data(), scores.data(), static_cast<int64_t>(rows.size())}; }
};

// Distinct rows below `items`, some of them crossed out; scores of few values, so that there are ties.
DrawnList Draw(std::mt19937* random, int64_t size, int32_t items) {
  std::vector<int32_t> all(items);
  for (int32_t i = 0; i < items; ++i) all[i] = i;
  std::shuffle(all.begin(), all.end(), *random);
  DrawnList list;
  for (int64_t i = 0; i < std::min<int64_t>(size, items); ++i) {
    const bool crossed_out = (*random)() % 5 == 0;
    list.rows.push_back(crossed_out ? -1 - static_cast<int32_t>((*random)() % 3) : all[i]);
    list.scores.push_back(crossed_out ? NAN : static_cast<float>((*random)() % 9) / 8.0f);
  }
  return list;
}

// All joined rows in their order, by maps and in double.
std::vector<Fused> Oracle(const std::vector<DrawnList>& lists, Combine combine, const Clicks* clicks) {
  std::map<int32_t, std::pair<double, int32_t>> joined;
  for (size_t number = 0; number < lists.size(); ++number) {
    for (size_t i = 0; i < lists[number].rows.size(); ++i) {
      if (lists[number].rows[i] < 0) continue;
      auto& [score, holders] = joined[lists[number].rows[i]];
      if (combine == Combine::kSum || holders == 0) score += lists[number].scores[i];
      holders |= 1 << number;
    }
  }
  if (clicks != nullptr) {
    std::map<int32_t, double> counts;
    for (int64_t i = 0; i < clicks->counts.size; ++i) {
      if (clicks->counts.rows[i] >= 0) counts[clicks->counts.rows[i]] = clicks->counts.scores[i];
    }
    double total = 0.0;
    for (const auto& [row, found] : joined) total += std::exp(found.first / clicks->temperature);
    for (auto& [row, found] : joined) {
      const double count = counts.count(row) ? counts[row] : 0.0;
      found.first = std::log(count + clicks->weight * std::exp(found.first / clicks->temperature) / total);
    }
  }
  std::vector<Fused> fused;
  for (const auto& [row, found] : joined) fused.push_back({static_cast<float>(found.first), row, found.second, 0});
  std::stable_sort(fused.begin(), fused.end(), [](const Fused& a, const Fused& b) { return a.score > b.score; });
  return fused;
}

TEST(FusionTest, EqualsTheOracle) {
  std::mt19937 random(1);
  Fusion fusion;
  for (int trial = 0; trial < 400; ++trial) {
    std::vector<DrawnList> lists;
    std::vector<RankedList> views;
    const int32_t items = 1 + static_cast<int32_t>(random() % 60);
    for (size_t i = 0; i < 1 + random() % 4; ++i) lists.push_back(Draw(&random, random() % 40, items));
    for (const DrawnList& list : lists) views.push_back(list.View());
    const DrawnList clicked = Draw(&random, random() % 20, items);
    const Clicks clicks{clicked.View(), 0.5f + static_cast<float>(random() % 4), 0.1f};
    for (const Combine combine : {Combine::kSum, Combine::kFirst}) {
      for (const Clicks* const given : {static_cast<const Clicks*>(nullptr), &clicks}) {
        const std::vector<Fused> expected = Oracle(lists, combine, given);
        const int64_t k = 1 + random() % 50;
        const std::vector<Fused>& found = fusion.Join(views, combine, given, k);
        ASSERT_EQ(found.size(), std::min<size_t>(k, expected.size()));
        for (size_t i = 0; i < found.size(); ++i) {
          ASSERT_NEAR(found[i].score, expected[i].score, 1e-5);
          if (given != nullptr) continue;  // what ties in double need not in float
          ASSERT_EQ(found[i].row, expected[i].row);
          ASSERT_EQ(found[i].lists, expected[i].lists);
          const RankedList& first = views[__builtin_ctz(found[i].lists)];
          ASSERT_EQ(first.rows[found[i].place], found[i].row);
        }
      }
    }
  }
}

TEST(FusionTest, NothingFoundIsAnEmptyList) {
  Fusion fusion;
  const Clicks clicks{{nullptr, nullptr, 0}, 1.0f, 1.0f};
  EXPECT_TRUE(fusion.Join({{nullptr, nullptr, 0}}, Combine::kSum, &clicks, 5).empty());
}

TEST(FusionTest, OneClickOutweighsAPriorOfLittleWeight) {
  const int32_t rows[] = {7, 3, 5};
  const float scores[] = {0.9f, 0.5f, -200.0f};
  const int32_t clicked[] = {5, 11};
  const float counts[] = {1.0f, 9.0f};
  Fusion fusion;
  const Clicks clicks{{clicked, counts, 2}, 0.5f, 0.1f};
  const std::vector<Fused>& found = fusion.Join({{rows, scores, 3}}, Combine::kSum, &clicks, 3);
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0].row, 5);
  EXPECT_NEAR(found[0].score, 0.0f, 1e-6);
  EXPECT_EQ(found[1].row, 7);
  EXPECT_EQ(found[2].row, 3);
}

}  // namespace
}  // namespace dpsr
