// libFuzzer over Filter: columns as they are made against a look at every item; of damaged ones nothing is read or
// written out of bounds.

#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>

#include "ops_cc/core/filters/filters.h"

namespace {

constexpr float kValues[] = {-1.0f, 0.0f, 0.5f, 2.0f, 1e30f};

void Check(bool condition) {
  if (!condition) std::abort();
}

struct Category {
  std::vector<int32_t> ids, splits = {0}, rows;
  dpsr::CategoryColumn view() const {
    return {ids.data(), splits.data(), rows.data(), static_cast<int64_t>(splits.size()) - 1,
            static_cast<int64_t>(rows.size())};
  }
};

struct Number {
  std::vector<float> values, sorted;
  std::vector<int32_t> rows;
  dpsr::NumberColumn view() const {
    return {values.data(), sorted.data(), rows.data(), static_cast<int64_t>(sorted.size())};
  }
};

Category DrawCategory(int32_t items, FuzzedDataProvider* data) {
  Category column;
  const int32_t num_ids = data->ConsumeIntegralInRange(0, 4);
  for (int32_t row = 0; row < items; ++row) column.ids.push_back(data->ConsumeIntegralInRange(-2, num_ids));
  for (int32_t id = 1; id <= num_ids; ++id) {
    for (int32_t row = 0; row < items; ++row) {
      if (column.ids[row] == id) column.rows.push_back(row);
    }
    column.splits.push_back(static_cast<int32_t>(column.rows.size()));
  }
  return column;
}

Number DrawNumber(int32_t items, FuzzedDataProvider* data) {
  Number column;
  for (int32_t row = 0; row < items; ++row) {
    column.values.push_back(data->ConsumeBool() ? data->PickValueInArray(kValues) : NAN);
    if (!std::isnan(column.values.back())) column.rows.push_back(row);
  }
  std::stable_sort(column.rows.begin(), column.rows.end(),
                   [&](int32_t a, int32_t b) { return column.values[a] < column.values[b]; });
  for (const int32_t row : column.rows) column.sorted.push_back(column.values[row]);
  return column;
}

template <typename T>
void Damage(std::vector<T>* values, FuzzedDataProvider* data) {
  if (values->empty()) return;
  (*values)[data->ConsumeIntegralInRange<size_t>(0, values->size() - 1)] =
      static_cast<T>(data->ConsumeIntegral<int32_t>());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  FuzzedDataProvider data(bytes, size);
  const int32_t items = data.ConsumeIntegralInRange(0, 100);
  const bool damaged = data.ConsumeBool();
  std::vector<Category> categories(data.ConsumeIntegralInRange(0, 2));
  std::vector<Number> numbers(data.ConsumeIntegralInRange(categories.empty() ? 1 : 0, 2));
  dpsr::Catalogue catalogue{{}, {}, items};
  std::vector<int32_t> ids;
  std::vector<dpsr::Range> ranges;
  for (Category& column : categories) {
    column = DrawCategory(items, &data);
    if (damaged) {
      Damage(&column.ids, &data);
      Damage(&column.splits, &data);
      Damage(&column.rows, &data);
    }
    catalogue.categories.push_back(column.view());
    ids.push_back(data.ConsumeIntegralInRange(-1, 6));
  }
  for (Number& column : numbers) {
    column = DrawNumber(items, &data);
    if (damaged) {
      Damage(&column.values, &data);
      Damage(&column.sorted, &data);
      Damage(&column.rows, &data);
    }
    catalogue.numbers.push_back(column.view());
    const float low = data.ConsumeBool() ? -INFINITY : data.PickValueInArray(kValues);
    ranges.push_back({low, data.ConsumeBool() ? INFINITY : data.PickValueInArray(kValues)});
  }
  const int64_t most = data.ConsumeIntegralInRange(0, 120);
  const dpsr::Filter filter(catalogue, ids, ranges);
  std::vector<int32_t> rows, expected;
  const int64_t matching = filter.List(most, &rows);
  std::vector<uint8_t> bits((items + 7) / 8 + 1, 0xAB);
  filter.Bits(bits.data());
  Check(bits.back() == 0xAB);
  for (int32_t row = -2; row < items + 2; ++row) {
    if (filter.Matches(row)) expected.push_back(row);
  }
  if (damaged) return 0;
  for (int32_t row = 0; row < items; ++row) {
    bool matches = true;
    for (size_t i = 0; i < ids.size(); ++i) matches &= ids[i] == 0 || (ids[i] > 0 && categories[i].ids[row] == ids[i]);
    for (size_t i = 0; i < ranges.size(); ++i) {
      const bool any = std::isinf(ranges[i].low) && std::isinf(ranges[i].high);
      matches &= any || (numbers[i].values[row] >= ranges[i].low && numbers[i].values[row] <= ranges[i].high);
    }
    Check(matches == std::binary_search(expected.begin(), expected.end(), row));
    Check(matches == ((bits[row / 8] >> row % 8 & 1) != 0));
  }
  if (!filter.active()) {
    Check(matching == items && rows.empty());
  } else if (static_cast<int64_t>(expected.size()) <= most) {
    Check(matching == static_cast<int64_t>(expected.size()) && rows == expected);
  } else {
    Check(matching > most);
  }
  return 0;
}
