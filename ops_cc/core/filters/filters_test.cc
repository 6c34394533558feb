#include "ops_cc/core/filters/filters.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

namespace dpsr {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kMissing = std::numeric_limits<float>::quiet_NaN();

// Columns of random values, and what they are made of.
struct Drawn {
  explicit Drawn(std::mt19937* random) {
    catalogue.num_items = (*random)() % 300;
    for (size_t i = 0; i < 1 + (*random)() % 2; ++i) AddCategory(random);
    for (size_t i = 0; i < (*random)() % 3; ++i) AddNumber(random);
    for (size_t i = 0; i < ids.size(); ++i) {
      catalogue.categories.push_back({ids[i].data(), splits[i].data(), category_rows[i].data(),
                                      static_cast<int64_t>(splits[i].size()) - 1,
                                      static_cast<int64_t>(category_rows[i].size())});
    }
    for (size_t i = 0; i < values.size(); ++i) {
      catalogue.numbers.push_back(
          {values[i].data(), sorted[i].data(), number_rows[i].data(), static_cast<int64_t>(sorted[i].size())});
    }
  }

  void AddCategory(std::mt19937* random) {
    const int32_t num_ids = 1 + static_cast<int32_t>((*random)() % 5);
    ids.emplace_back();
    for (int64_t i = 0; i < catalogue.num_items; ++i) {
      const int32_t id = static_cast<int32_t>((*random)() % (num_ids + 1));
      ids.back().push_back(id == 0 ? -2 : id);
    }
    splits.push_back({0});
    category_rows.emplace_back();
    for (int32_t id = 1; id <= num_ids; ++id) {
      for (int32_t row = 0; row < catalogue.num_items; ++row) {
        if (ids.back()[row] == id) category_rows.back().push_back(row);
      }
      splits.back().push_back(static_cast<int32_t>(category_rows.back().size()));
    }
  }

  void AddNumber(std::mt19937* random) {
    values.emplace_back();
    number_rows.emplace_back();
    for (int32_t row = 0; row < catalogue.num_items; ++row) {
      const int32_t value = static_cast<int32_t>((*random)() % 12);
      values.back().push_back(value == 0 ? kMissing : static_cast<float>(value));
      if (value != 0) number_rows.back().push_back(row);
    }
    const std::vector<float>& of_rows = values.back();
    std::stable_sort(number_rows.back().begin(), number_rows.back().end(),
                     [&](int32_t a, int32_t b) { return of_rows[a] < of_rows[b]; });
    sorted.emplace_back();
    for (const int32_t row : number_rows.back()) sorted.back().push_back(of_rows[row]);
  }

  Catalogue catalogue;
  std::vector<std::vector<int32_t>> ids, splits, category_rows, number_rows;
  std::vector<std::vector<float>> values, sorted;
};

TEST(FilterTest, ListAndBitsAreThoseOfAScan) {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    const Drawn drawn(&random);
    const Catalogue& catalogue = drawn.catalogue;
    std::vector<int32_t> ids;
    std::vector<Range> ranges;
    for (size_t i = 0; i < catalogue.categories.size(); ++i) ids.push_back(static_cast<int32_t>(random() % 8) - 1);
    for (size_t i = 0; i < catalogue.numbers.size(); ++i) {
      const auto limit = [&](float open) { return random() % 3 == 0 ? open : static_cast<float>(random() % 14); };
      ranges.push_back({limit(-kInfinity), limit(kInfinity)});
    }
    std::vector<int32_t> expected;
    for (int32_t row = 0; row < catalogue.num_items; ++row) {
      bool matches = true;
      for (size_t i = 0; i < ids.size(); ++i) matches &= ids[i] == Filter::kAnyId || drawn.ids[i][row] == ids[i];
      for (size_t i = 0; i < ranges.size(); ++i) {
        const float value = drawn.values[i][row];
        const bool open = ranges[i].low == -kInfinity && ranges[i].high == kInfinity;
        matches &= open || (value >= ranges[i].low && value <= ranges[i].high);
      }
      if (matches) expected.push_back(row);
    }

    const Filter filter(catalogue, ids, ranges);
    std::vector<int32_t> found;
    ASSERT_EQ(filter.List(catalogue.num_items, &found), static_cast<int64_t>(expected.size()));
    ASSERT_TRUE(filter.active() || found.empty());
    if (filter.active()) {
      ASSERT_EQ(found, expected);
    }
    const int64_t most = static_cast<int64_t>(random() % 100);
    const int64_t estimate = filter.List(most, &found);
    ASSERT_EQ(estimate > most, static_cast<int64_t>(expected.size()) > most);
    ASSERT_LE(estimate, catalogue.num_items);
    std::vector<uint8_t> bits((catalogue.num_items + 7) / 8, 0xAA), wanted(bits.size());
    for (const int32_t row : expected) wanted[row / 8] = static_cast<uint8_t>(wanted[row / 8] | 1 << row % 8);
    filter.Bits(bits.data());
    ASSERT_EQ(bits, wanted);
  }
}

TEST(FilterTest, EstimatesFromTheWholeList) {
  // The values of a column are the numbers of its items.
  constexpr int32_t kItems = 100000;
  std::vector<int32_t> rows(kItems), found;
  std::iota(rows.begin(), rows.end(), 0);
  const std::vector<float> values(rows.begin(), rows.end());
  const NumberColumn column{values.data(), values.data(), rows.data(), kItems};
  const Catalogue catalogue{{}, {column, column}, kItems};
  // Items 0 to 59,999 are gone through; the first 30,000 of them do not match.
  const Filter filter(catalogue, {}, {{-kInfinity, 59999.0f}, {30000.0f, kInfinity}});
  EXPECT_NEAR(static_cast<double>(filter.List(1000, &found)), 30000, 100);
}

TEST(FilterTest, ListsOfRangesAscend) {
  // So many items that few of them are sorted by comparisons, and many by a bitmap.
  constexpr int32_t kItems = 10000;
  std::vector<int32_t> rows(kItems);
  std::iota(rows.rbegin(), rows.rend(), 0);
  std::vector<float> sorted(rows.rbegin(), rows.rend()), values(rows.begin(), rows.end());
  const Catalogue catalogue{{}, {{values.data(), sorted.data(), rows.data(), kItems}}, kItems};
  for (const int32_t last : {4, 4999}) {
    std::vector<int32_t> found, expected(last + 1);
    std::iota(expected.begin(), expected.end(), kItems - 1 - last);
    EXPECT_EQ(Filter(catalogue, {}, {{0.0f, static_cast<float>(last)}}).List(kItems, &found), last + 1);
    EXPECT_EQ(found, expected);
  }
}

TEST(FilterTest, DamagedColumnsMatchNothing) {
  const int32_t ids[] = {1, 1}, rows[] = {0, 7}, other_ids[] = {1, 1}, other_rows[] = {0, 1, 1};
  const int32_t descending[] = {2, 1}, beyond[] = {0, 3}, right[] = {0, 2}, longer[] = {0, 3};
  std::vector<int32_t> found;
  for (const int32_t* splits : {descending, beyond}) {
    const Catalogue catalogue{{{ids, splits, rows, 1, 2}}, {}, 2};
    EXPECT_EQ(Filter(catalogue, {1}, {}).List(10, &found), 0);
  }
  // Another filter asks of each row whether it matches.
  const Catalogue catalogue{{{ids, right, rows, 1, 2}, {other_ids, longer, other_rows, 1, 3}}, {}, 2};
  EXPECT_EQ(Filter(catalogue, {1, 1}, {}).List(10, &found), 1);
  EXPECT_EQ(found, std::vector<int32_t>{0});
}

}  // namespace
}  // namespace dpsr
