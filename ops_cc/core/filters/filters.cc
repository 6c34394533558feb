#include "ops_cc/core/filters/filters.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace dpsr {
namespace {

// Bits are set one by one where fewer than one item in this many is listed, else all items are gone through.
constexpr int64_t kSparse = 16;

bool IsLimited(const Range& range) {
  return !(std::isinf(range.low) && range.low < 0 && std::isinf(range.high) && range.high > 0);
}

}  // namespace

Filter::Filter(const Catalogue& catalogue, const std::vector<int32_t>& ids, const std::vector<Range>& ranges)
    : num_items_(catalogue.num_items), shortest_{nullptr, catalogue.num_items + 1} {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] == kAnyId) continue;
    const CategoryColumn& column = catalogue.categories[i];
    categories_.push_back({column.ids, ids[i]});
    const bool known = ids[i] > 0 && ids[i] <= column.num_ids;
    const int64_t begin = known ? column.splits[ids[i] - 1] : 0, end = known ? column.splits[ids[i]] : 0;
    UseIfShorter(column.rows, begin, begin >= 0 && end >= begin && end <= column.num_rows ? end : begin);
  }
  for (size_t i = 0; i < ranges.size(); ++i) {
    if (!IsLimited(ranges[i])) continue;
    const NumberColumn& column = catalogue.numbers[i];
    numbers_.push_back({column.values, ranges[i]});
    const float* const end = column.sorted + column.size;
    const float* const first = std::lower_bound(column.sorted, end, ranges[i].low);
    const float* const last = std::upper_bound(column.sorted, end, ranges[i].high);
    UseIfShorter(column.rows, first - column.sorted, std::max(first, last) - column.sorted);
  }
}

void Filter::UseIfShorter(const int32_t* rows, int64_t begin, int64_t end) {
  if (end - begin < shortest_.size) shortest_ = {rows + begin, end - begin};
}

bool Filter::Matches(int32_t row) const {
  if (static_cast<uint32_t>(row) >= static_cast<uint64_t>(num_items_)) return false;
  for (const Equal& filter : categories_) {
    if (filter.ids[row] != filter.id) return false;
  }
  for (const Within& filter : numbers_) {
    const float value = filter.values[row];
    if (!(value >= filter.range.low && value <= filter.range.high)) return false;
  }
  return true;
}

int64_t Filter::List(int64_t most, std::vector<int32_t>* rows) const {
  rows->clear();
  if (!active()) return num_items_;
  if (categories_.size() + numbers_.size() == 1) {  // the list of the only filter is the answer
    if (shortest_.size <= most) rows->assign(shortest_.rows, shortest_.rows + shortest_.size);
    return shortest_.size;
  }
  for (int64_t i = 0; i < shortest_.size; ++i) {
    if (!Matches(shortest_.rows[i])) continue;
    rows->push_back(shortest_.rows[i]);
    if (static_cast<int64_t>(rows->size()) > most) {
      const double share = static_cast<double>(rows->size()) / static_cast<double>(i + 1);
      return std::max<int64_t>(most + 1, std::llround(share * static_cast<double>(shortest_.size)));
    }
  }
  return static_cast<int64_t>(rows->size());
}

void Filter::Bits(uint8_t* bits) const {
  const int64_t bytes = (num_items_ + 7) / 8;
  if (bytes == 0) return;
  if (active() && shortest_.size < num_items_ / kSparse) {
    std::memset(bits, 0, static_cast<size_t>(bytes));
    for (int64_t i = 0; i < shortest_.size; ++i) {
      const int32_t row = shortest_.rows[i];
      if (Matches(row)) bits[row / 8] = static_cast<uint8_t>(bits[row / 8] | 1 << row % 8);
    }
    return;
  }
  std::memset(bits, 0xFF, static_cast<size_t>(bytes));
  if (num_items_ % 8 != 0) bits[bytes - 1] = static_cast<uint8_t>((1 << num_items_ % 8) - 1);
  // Bit by bit of one byte, without a branch, so that the compiler makes registers of it.
  const auto keep = [&](auto matches) {
    for (int64_t byte = 0; byte < bytes; ++byte) {
      const int64_t first = 8 * byte, count = std::min<int64_t>(8, num_items_ - first);
      unsigned kept = 0;
      for (int64_t bit = 0; bit < count; ++bit) kept |= static_cast<unsigned>(matches(first + bit)) << bit;
      bits[byte] = static_cast<uint8_t>(bits[byte] & kept);
    }
  };
  for (const Equal& filter : categories_) keep([&](int64_t row) { return filter.ids[row] == filter.id; });
  for (const Within& filter : numbers_) {
    keep([&](int64_t row) {
      return (filter.values[row] >= filter.range.low) & (filter.values[row] <= filter.range.high);
    });
  }
}

}  // namespace dpsr
