// libFuzzer over Join: any rows and any scores that are numbers give distinct rows in the order of their scores.

#include <fuzzer/FuzzedDataProvider.h>

#include <cmath>
#include <cstdlib>
#include <set>

#include "ops_cc/core/fusion/fusion.h"

namespace {

void Check(bool condition) {
  if (!condition) std::abort();
}

struct List {
  std::vector<int32_t> rows;
  std::vector<float> scores;
  dpsr::RankedList view() const { return {rows.data(), scores.data(), static_cast<int64_t>(rows.size())}; }
};

List Draw(FuzzedDataProvider* data) {
  List list;
  for (int size = data->ConsumeIntegralInRange(0, 40); size > 0; --size) {
    const bool small = data->ConsumeBool();
    list.rows.push_back(small ? data->ConsumeIntegralInRange(-1, 20) : data->ConsumeIntegral<int32_t>());
    const float score = data->ConsumeFloatingPoint<float>();
    list.scores.push_back(std::isnan(score) ? 0.0f : score);
  }
  return list;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  FuzzedDataProvider data(bytes, size);
  static dpsr::Fusion fusion;
  const auto combine = data.ConsumeBool() ? dpsr::Combine::kSum : dpsr::Combine::kFirst;
  const int64_t k = data.ConsumeIntegralInRange(1, 50);
  const float weight = data.ConsumeFloatingPointInRange(1e-6f, 1e6f);
  const float temperature = data.ConsumeFloatingPointInRange(1e-6f, 1e6f);
  const List clicked = data.ConsumeBool() ? Draw(&data) : List{};
  std::vector<List> lists(data.ConsumeIntegralInRange(1, 4));
  std::vector<dpsr::RankedList> views;
  std::set<int32_t> rows;
  for (List& list : lists) {
    list = Draw(&data);
    views.push_back(list.view());
    for (const int32_t row : list.rows) {
      if (row >= 0) rows.insert(row);
    }
  }
  const dpsr::Clicks clicks{clicked.view(), weight, temperature};
  const auto& fused = fusion.Join(views, combine, clicked.rows.empty() ? nullptr : &clicks, k);
  Check(fused.size() == std::min(rows.size(), static_cast<size_t>(k)));
  for (size_t i = 0; i < fused.size(); ++i) {
    Check(rows.erase(fused[i].row) == 1);
    Check(!std::isnan(fused[i].score));
    if (i > 0) Check(fused[i - 1].score >= fused[i].score);
    Check(fused[i].lists != 0);
    const List& first = lists[static_cast<size_t>(__builtin_ctz(static_cast<unsigned>(fused[i].lists)))];
    Check(first.rows[static_cast<size_t>(fused[i].place)] == fused[i].row);
  }
  return 0;
}
