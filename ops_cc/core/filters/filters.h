// Which items of a catalogue match the filters of a request.

#ifndef DPSR_OPS_CC_CORE_FILTERS_FILTERS_H_
#define DPSR_OPS_CC_CORE_FILTERS_FILTERS_H_

#include <cstdint>
#include <vector>

namespace dpsr {

// A column of N items that is filtered by equality. Ids are 1 .. V; any other number stands for an item without a
// value.
struct CategoryColumn {
  const int32_t* ids;     // [N]
  const int32_t* splits;  // [V + 1]; the items of id v are rows[splits[v - 1]:splits[v]]
  const int32_t* rows;    // the items that have a value, ascending within an id
  int64_t num_ids;        // V
  int64_t num_rows;
};

// A column of N items that is filtered by a range.
struct NumberColumn {
  const float* values;  // [N], NaN for an item without a value
  const float* sorted;  // [M], the values that there are, ascending
  const int32_t* rows;  // [M], their items
  int64_t size;         // M
};

struct Catalogue {
  std::vector<CategoryColumn> categories;
  std::vector<NumberColumn> numbers;
  int64_t num_items;
};

struct Range {
  float low, high;  // inclusive; no limit where both are infinite
};

// Items, by their rows.
struct RowList {
  const int32_t* rows;
  int64_t size;
};

// The filters of one query: items have to match all of them. A row or split that cannot be matches nothing.
class Filter {
 public:
  static constexpr int32_t kAnyId = 0;

  // ids: of each category column, kAnyId for no filter; another id that is none of the column matches nothing.
  Filter(const Catalogue& catalogue, const std::vector<int32_t>& ids, const std::vector<Range>& ranges);

  // Whether anything is asked for.
  bool active() const { return !categories_.empty() || !numbers_.empty(); }

  bool Matches(int32_t row) const;

  // Puts the matching items into `rows`, ascending, and returns their number. Stops where it is above `most`, and
  // returns an estimate of it then; `rows` are of no use in that case. Without a filter no row is listed.
  int64_t List(int64_t most, std::vector<int32_t>* rows) const;

  // Bit row % 8 of byte row / 8, of (num_items + 7) / 8 bytes, for every matching item.
  void Bits(uint8_t* bits) const;

 private:
  struct Equal {
    const int32_t* ids;
    int32_t id;
  };
  struct Within {
    const float* values;
    Range range;
  };

  void UseIfShorter(const int32_t* rows, int64_t begin, int64_t end, bool ascending);

  // How many items match, by a sample of the shortest list.
  int64_t Estimate() const;

  int64_t num_items_;
  bool none_ = false;  // matches, as a value is asked for that is none of its column
  std::vector<Equal> categories_;
  std::vector<Within> numbers_;
  // The items that match one of the filters, the one that fewest match.
  RowList shortest_;
  bool shortest_ascends_ = true;
};

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_FILTERS_FILTERS_H_
