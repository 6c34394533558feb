#include "ops_cc/core/filters/filters.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace dpsr {
namespace {

// Bits are set one by one where fewer than one item in this many is listed, else all items are gone through.
constexpr int64_t kSparse = 16;

// Rows are sorted by comparisons where fewer than one item in this many is among them, else by a bitmap of all items.
constexpr int64_t kFewToSort = 1024;

// Rows of the shortest list that an estimate is made of.
constexpr int64_t kSample = 1024;

bool IsLimited(const Range& range) {
  return !(std::isinf(range.low) && range.low < 0 && std::isinf(range.high) && range.high > 0);
}

// Distinct rows into ascending order: vectors that lie side by side are then read one after the other. Rows that cannot
// be are dropped.
void Sort(int64_t num_items, std::vector<int32_t>* rows) {
  if (static_cast<int64_t>(rows->size()) < num_items / kFewToSort) return std::sort(rows->begin(), rows->end());
  std::vector<uint64_t> bits(static_cast<size_t>((num_items + 63) / 64));
  for (const int32_t row : *rows) {
    if (static_cast<uint32_t>(row) < static_cast<uint64_t>(num_items)) bits[row / 64] |= uint64_t{1} << row % 64;
  }
  rows->clear();
  for (size_t word = 0; word < bits.size(); ++word) {
    for (uint64_t left = bits[word]; left != 0; left &= left - 1) {
      rows->push_back(static_cast<int32_t>(64 * word) + __builtin_ctzll(left));
    }
  }
}

}  // namespace

Filter::Filter(const Catalogue& catalogue, const std::vector<int32_t>& ids, const std::vector<Range>& ranges)
    : num_items_(catalogue.num_items), shortest_{nullptr, catalogue.num_items + 1} {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] == kAnyId) continue;
    const CategoryColumn& column = catalogue.categories[i];
    categories_.push_back({column.ids, ids[i]});
    const bool known = ids[i] > 0 && ids[i] <= column.num_ids;
    none_ |= !known;
    const int64_t begin = known ? column.splits[ids[i] - 1] : 0, end = known ? column.splits[ids[i]] : 0;
    const bool fits = begin >= 0 && end >= begin && end <= column.num_rows;
    UseIfShorter(column.rows, fits ? begin : 0, fits ? end : 0, true);
  }
  for (size_t i = 0; i < ranges.size(); ++i) {
    if (!IsLimited(ranges[i])) continue;
    const NumberColumn& column = catalogue.numbers[i];
    numbers_.push_back({column.values, ranges[i]});
    const float* const end = column.sorted + column.size;
    const float* const first = std::lower_bound(column.sorted, end, ranges[i].low);
    const float* const last = std::upper_bound(column.sorted, end, ranges[i].high);
    UseIfShorter(column.rows, first - column.sorted, std::max(first, last) - column.sorted, false);
  }
}

void Filter::UseIfShorter(const int32_t* rows, int64_t begin, int64_t end, bool ascending) {
  if (end - begin >= shortest_.size) return;
  shortest_ = {rows + begin, end - begin};
  shortest_ascends_ = ascending;
}

bool Filter::Matches(int32_t row) const {
  if (none_ || static_cast<uint32_t>(row) >= static_cast<uint64_t>(num_items_)) return false;
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
    if (shortest_.size > most) return shortest_.size;
    rows->assign(shortest_.rows, shortest_.rows + shortest_.size);
  } else {
    for (int64_t i = 0; i < shortest_.size; ++i) {
      if (!Matches(shortest_.rows[i])) continue;
      rows->push_back(shortest_.rows[i]);
      if (static_cast<int64_t>(rows->size()) > most) return std::max(most + 1, Estimate());
    }
  }
  if (!shortest_ascends_) Sort(num_items_, rows);
  return static_cast<int64_t>(rows->size());
}

int64_t Filter::Estimate() const {
  // Spread over the whole list: neighbours in a catalogue are often of one kind.
  const int64_t sample = std::min(kSample, shortest_.size);
  int64_t matching = 0;
  for (int64_t i = 0; i < sample; ++i) matching += Matches(shortest_.rows[i * shortest_.size / sample]);
  return shortest_.size * matching / std::max<int64_t>(sample, 1);
}

void Filter::Bits(uint8_t* bits) const {
  const int64_t bytes = (num_items_ + 7) / 8;
  if (bytes == 0) return;
  if (none_ || (active() && shortest_.size < num_items_ / kSparse)) {
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
