// libFuzzer over Search: small whole numbers, whose inner products are exact, against scoring and sorting all rows.

#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstdlib>

#include "ops_cc/core/row_search/row_search.h"

namespace {

void Check(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  FuzzedDataProvider data(bytes, size);
  static dpsr::RowSearch search;
  const int64_t width = data.ConsumeIntegralInRange(1, 70), num_rows = data.ConsumeIntegralInRange(1, 40);
  const int64_t num_heads = data.ConsumeIntegralInRange(1, 5), k = data.ConsumeIntegralInRange(1, 50);
  const bool in_floats = data.ConsumeBool();
  std::vector<int8_t> small(num_rows * width);
  for (int8_t& value : small) value = data.ConsumeIntegralInRange<int8_t>(-3, 3);
  const std::vector<float> floats(small.begin(), small.end());
  std::vector<float> heads(num_heads * width);
  for (float& value : heads) value = data.ConsumeIntegralInRange<int8_t>(-3, 3);
  std::vector<int32_t> rows;
  for (int32_t row = 0; row < num_rows; ++row) {
    if (data.remaining_bytes() == 0 || data.ConsumeBool()) rows.push_back(row);
  }
  std::vector<dpsr::ScoredRow> expected;
  for (const int32_t row : rows) {
    dpsr::ScoredRow best{};
    for (int32_t head = 0; head < num_heads; ++head) {
      float score = 0;
      for (int64_t i = 0; i < width; ++i) score += heads[head * width + i] * floats[row * width + i];
      if (head == 0 || score > best.score) best = {score, row, head};
    }
    expected.push_back(best);
  }
  std::stable_sort(expected.begin(), expected.end(), [](const auto& a, const auto& b) { return a.score > b.score; });
  expected.resize(std::min<size_t>(expected.size(), static_cast<size_t>(k)));
  const dpsr::RowVectors vectors{in_floats ? floats.data() : nullptr, in_floats ? nullptr : small.data(), width};
  const auto& found =
      search.Search(vectors, rows.data(), static_cast<int64_t>(rows.size()), heads.data(), num_heads, k);
  Check(found.size() == expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    Check(found[i].row == expected[i].row && found[i].score == expected[i].score && found[i].head == expected[i].head);
  }
  return 0;
}
