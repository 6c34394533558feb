#include "ops_cc/core/bm25/earlier.h"

namespace dpsr {
namespace {

// Appends start + offset of every document of a container; false where one does not ascend or is behind the range.
bool AppendContainer(const uint16_t* units, int64_t count, int32_t start, int32_t end, std::vector<int32_t>* places) {
  if (count <= kLongestArray) {
    int32_t last = start - 1;
    for (int64_t i = 0; i < count; ++i) {
      const int32_t place = start + units[i];
      if (place <= last || place >= end) return false;
      places->push_back(place);
      last = place;
    }
    return true;
  }
  const size_t before = places->size();
  for (int32_t unit = 0; unit < kBitmapUnits; ++unit) {
    for (uint32_t bits = units[unit]; bits != 0; bits &= bits - 1) {
      const int32_t place = start + 16 * unit + __builtin_ctz(bits);
      if (place >= end) return false;
      places->push_back(place);
    }
  }
  return static_cast<int64_t>(places->size() - before) == count;
}

}  // namespace

bool ListsOf(const Bm25Index& index, int64_t term, int32_t* first, int32_t* last) {
  *first = index.term_lists[term];
  *last = index.term_lists[term + 1];
  return 0 <= *first && *first <= *last && *last <= index.num_lists;
}

bool AppendPlaces(const Bm25Index& index, int64_t list, std::vector<int32_t>* places) {
  const int64_t *const begin = index.list_starts + 2 * list, *const end = begin + 2;
  if (begin[0] < 0 || begin[0] > end[0] || end[0] > index.num_entries || begin[1] < 0 || begin[1] > end[1] ||
      end[1] > index.num_postings) {
    return false;
  }
  int64_t unit = begin[1], last_range = -1;
  for (int64_t entry = begin[0]; entry < end[0]; ++entry) {
    const int64_t range = index.entries[2 * entry], count = index.entries[2 * entry + 1] + int64_t{1};
    const int64_t units = ContainerUnits(count);
    if (range <= last_range || range >= index.num_ranges || units > end[1] - unit) return false;
    if (!AppendContainer(index.postings + unit, count, index.range_starts[range], index.range_starts[range + 1],
                         places)) {
      return false;
    }
    last_range = range;
    unit += units;
  }
  return true;
}

bool CountDocuments(const Bm25Index& index, const uint8_t* kept, int64_t first, int64_t last, int32_t* counts) {
  std::vector<int32_t> places;
  for (int64_t term = first; term < last; ++term) {
    places.clear();
    int32_t list, end;
    if (!ListsOf(index, term, &list, &end)) return false;
    for (; list < end; ++list) {
      if (!AppendPlaces(index, list, &places)) return false;
    }
    int32_t count = 0;
    for (const int32_t place : places) {
      const int32_t row = index.rows[place];
      if (row < 0 || row >= index.num_documents) return false;
      count += kept[row] != 0;
    }
    counts[term] = count;
  }
  return true;
}

}  // namespace dpsr
