#include "ops_cc/core/bm25/build.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace dpsr {
namespace {

// Occurrences of the terms of a part; more where one term has more.
constexpr int64_t kPartOccurrences = 1 << 24;
constexpr int kLengthBits = 12;

uint32_t Bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

// A term of a document, in a field.
struct Occurrence {
  int32_t term;
  int32_t field;
  bool operator<(const Occurrence& other) const { return term != other.term ? term < other.term : field < other.field; }
};

// A document that has a term, and the number of its tf among those of the part.
struct Posting {
  int32_t place;
  uint16_t tf;
};

// The different tf of a part, numbered as they come.
class TermFrequencies {
 public:
  uint16_t Number(float tf) {
    // One or two are the rule.
    for (size_t i = 0; i < values_.size(); ++i) {
      if (values_[i] == tf) return static_cast<uint16_t>(i);
    }
    if (values_.size() > std::numeric_limits<uint16_t>::max()) return Nearest(tf);
    values_.push_back(tf);
    return static_cast<uint16_t>(values_.size() - 1);
  }
  float value(uint16_t number) const { return values_[number]; }

 private:
  uint16_t Nearest(float tf) const {
    const auto nearer = [&](float a, float b) { return std::abs(a - tf) < std::abs(b - tf); };
    return static_cast<uint16_t>(std::min_element(values_.begin(), values_.end(), nearer) - values_.begin());
  }

  std::vector<float> values_;
};

// Appends lists to a part.
class ListWriter {
 public:
  ListWriter(const std::vector<int32_t>& range_starts, Bm25Part* part) : range_starts_(range_starts), part_(*part) {}

  // Places ascend.
  void Write(const int32_t* places, int64_t count, float tf) {
    size_t range = 0;
    for (int64_t i = 0; i < count;) {
      range =
          std::upper_bound(range_starts_.begin() + range, range_starts_.end(), places[i]) - range_starts_.begin() - 1;
      int64_t end = i;
      while (end < count && places[end] < range_starts_[range + 1]) ++end;
      WriteContainer(static_cast<uint16_t>(range), places + i, end - i);
      i = end;
    }
    part_.list_weights.push_back(tf);
    part_.list_ends.push_back(static_cast<int64_t>(part_.entries.size()) / 2);
    part_.list_ends.push_back(static_cast<int64_t>(part_.postings.size()));
  }

 private:
  void WriteContainer(uint16_t range, const int32_t* places, int64_t count) {
    part_.entries.push_back(range);
    part_.entries.push_back(static_cast<uint16_t>(count - 1));
    const size_t first = part_.postings.size();
    part_.postings.resize(first + ContainerUnits(count));
    uint16_t* const units = part_.postings.data() + first;
    const int32_t start = range_starts_[range];
    if (count <= kLongestArray) {
      for (int64_t i = 0; i < count; ++i) units[i] = static_cast<uint16_t>(places[i] - start);
      return;
    }
    uint8_t* const bytes = reinterpret_cast<uint8_t*>(units);
    for (int64_t i = 0; i < count; ++i) bytes[(places[i] - start) >> 3] |= 1 << ((places[i] - start) & 7);
  }

  const std::vector<int32_t>& range_starts_;
  Bm25Part& part_;
};

// The lists of one term after the other: postings of the fields, and of an earlier index.
class TermWriter {
 public:
  TermWriter(const Bm25Earlier* earlier, const std::vector<int32_t>& place_of_earlier,
             const TermFrequencies& frequencies, ListWriter* lists)
      : earlier_(earlier), place_of_earlier_(place_of_earlier), frequencies_(frequencies), lists_(*lists) {}

  // Places ascend. Returns the number of lists, or -1 where the earlier index is damaged.
  int32_t Write(int32_t term, const Posting* begin, const Posting* end) {
    if (!ReadEarlier(term)) return -1;
    numbers_.clear();
    for (const Posting* posting = begin; posting < end; ++posting) {
      if (std::find(numbers_.begin(), numbers_.end(), posting->tf) == numbers_.end()) numbers_.push_back(posting->tf);
    }
    std::sort(numbers_.begin(), numbers_.end(),
              [&](uint16_t a, uint16_t b) { return frequencies_.value(a) < frequencies_.value(b); });
    int32_t written = 0;
    size_t next = 0;
    documents_ = end - begin + static_cast<int64_t>(places_.size());
    for (const uint16_t number : numbers_) {
      const float tf = frequencies_.value(number);
      for (; next < taken_.size() && taken_[next].tf < tf; ++next, ++written) WriteTaken(taken_[next]);
      merged_.clear();
      for (const Posting* posting = begin; posting < end; ++posting) {
        if (posting->tf == number) merged_.push_back(posting->place);
      }
      if (next < taken_.size() && taken_[next].tf == tf) {
        const int64_t own = static_cast<int64_t>(merged_.size());
        merged_.insert(merged_.end(), places_.begin() + taken_[next].begin, places_.begin() + taken_[next].end);
        std::inplace_merge(merged_.begin(), merged_.begin() + own, merged_.end());
        ++next;
      }
      lists_.Write(merged_.data(), static_cast<int64_t>(merged_.size()), tf);
      ++written;
    }
    for (; next < taken_.size(); ++next, ++written) WriteTaken(taken_[next]);
    return written;
  }

  // Of the last term.
  int64_t documents() const { return documents_; }

 private:
  // The places of a list of the earlier index, as they are now.
  struct Taken {
    float tf;
    size_t begin, end;  // in places_
  };

  bool ReadEarlier(int32_t term) {
    taken_.clear();
    places_.clear();
    if (earlier_ == nullptr || earlier_->terms[term] < 0) return true;
    int32_t list, last;
    if (!ListsOf(earlier_->index, earlier_->terms[term], &list, &last)) return false;
    for (; list < last; ++list) {
      const size_t begin = places_.size();
      if (!AppendPlaces(earlier_->index, list, &places_)) return false;
      size_t end = begin;
      for (size_t i = begin; i < places_.size(); ++i) {
        const int32_t place = place_of_earlier_[places_[i]];
        if (place >= 0) places_[end++] = place;
      }
      places_.resize(end);
      const float tf = earlier_->index.list_weights[list];
      if (!taken_.empty() && !(taken_.back().tf < tf)) return false;
      if (end > begin) taken_.push_back({tf, begin, end});
    }
    return true;
  }

  void WriteTaken(const Taken& taken) {
    lists_.Write(places_.data() + taken.begin, static_cast<int64_t>(taken.end - taken.begin), taken.tf);
  }

  const Bm25Earlier* const earlier_;
  const std::vector<int32_t>& place_of_earlier_;
  const TermFrequencies& frequencies_;
  ListWriter& lists_;
  int64_t documents_ = 0;
  std::vector<uint16_t> numbers_;
  std::vector<int32_t> places_, merged_;
  std::vector<Taken> taken_;
};

}  // namespace

float RoundedLength(float length) {
  int exponent;
  const float mantissa = std::frexp(length, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(mantissa, kLengthBits)), exponent - kLengthBits);
}

Bm25Builder::Bm25Builder(const Bm25Source& source) : source_(source), average_length_(source.average_length) {
  OrderDocuments();
  damaged_ = !PlaceEarlier() || !CutParts();
}

std::vector<float> Bm25Builder::Lengths() const {
  std::vector<float> lengths(source_.num_documents);
  for (int64_t row = 0; row < source_.num_documents; ++row) {
    for (const Bm25Field& field : source_.fields) {
      lengths[row] += field.weight * static_cast<float>(field.offsets[row + 1] - field.offsets[row]);
    }
    lengths[row] = RoundedLength(lengths[row]);
  }
  if (source_.earlier == nullptr) return lengths;
  const Bm25Index& index = source_.earlier->index;
  for (int64_t range = 0; range < index.num_ranges; ++range) {
    for (int32_t place = index.range_starts[range]; place < index.range_starts[range + 1]; ++place) {
      const int32_t row = index.rows[place];
      if (row < 0 || row >= index.num_documents || source_.earlier->documents[row] < 0) continue;
      lengths[source_.earlier->documents[row]] = std::max(0.0f, source_.earlier->range_lengths[range]);
    }
  }
  return lengths;
}

void Bm25Builder::OrderDocuments() {
  const int64_t count = source_.num_documents;
  const std::vector<float> lengths = Lengths();
  double total = 0;
  for (const float length : lengths) total += length;
  if (average_length_ == 0) average_length_ = total > 0 ? static_cast<float>(total / count) : 1;

  // Lengths are not negative, so their bits are in the order of their values.
  std::vector<uint64_t> keys(count);
  for (int64_t row = 0; row < count; ++row) keys[row] = uint64_t{Bits(lengths[row])} << 32 | row;
  std::sort(keys.begin(), keys.end());
  rows_.resize(count);
  for (int64_t place = 0; place < count; ++place) rows_[place] = static_cast<int32_t>(keys[place]);
  CutRanges(lengths);
}

void Bm25Builder::CutRanges(const std::vector<float>& lengths) {
  const auto by_prior = [&](int32_t one, int32_t other) {
    const float a = source_.priors[one], b = source_.priors[other];
    return a != b ? a > b : one < other;
  };
  for (auto first = rows_.begin(); first != rows_.end();) {
    const float length = lengths[*first];
    const auto last = std::find_if(first, rows_.end(), [&](int32_t row) { return lengths[row] != length; });
    const float norm = source_.k1 * (1 - source_.b + source_.b * length / average_length_);
    if (source_.priors != nullptr) std::sort(first, last, by_prior);
    while (first != last) {
      const auto end = first + std::min<int64_t>(kRangeDocuments, last - first);
      range_starts_.push_back(static_cast<int32_t>(end - rows_.begin()));
      range_values_.push_back(norm);
      range_values_.push_back(source_.priors == nullptr ? 0 : source_.priors[*first]);
      range_lengths_.push_back(length);
      if (source_.priors != nullptr) std::sort(first, end);
      first = end;
    }
  }
}

bool Bm25Builder::PlaceEarlier() {
  std::vector<int32_t> places(source_.earlier == nullptr ? 0 : rows_.size());
  for (size_t place = 0; place < rows_.size(); ++place) {
    const int32_t row = rows_[place];
    if (!places.empty()) places[row] = static_cast<int32_t>(place);
    const auto has_terms = [&](const Bm25Field& field) { return field.offsets[row] < field.offsets[row + 1]; };
    if (std::any_of(source_.fields.begin(), source_.fields.end(), has_terms)) {
      filled_.push_back(static_cast<int32_t>(place));
    }
  }
  if (source_.earlier == nullptr) return true;
  const Bm25Index& index = source_.earlier->index;
  place_of_earlier_.assign(index.num_documents, -1);
  int32_t last = -1;
  for (int64_t place = 0; place < index.num_documents; ++place) {
    const int32_t row = index.rows[place];
    if (row < 0 || row >= index.num_documents) return false;
    const int32_t document = source_.earlier->documents[row];
    if (document < 0) continue;
    // Lists ascend, and go on to.
    if (places[document] <= last) return false;
    last = place_of_earlier_[place] = places[document];
  }
  return true;
}

bool Bm25Builder::CutParts() {
  occurrences_.resize(source_.num_terms);
  for (const Bm25Field& field : source_.fields) {
    for (int64_t i = 0; i < field.num_terms; ++i) ++occurrences_[field.terms[i]];
  }
  int64_t occurrences = 0;
  for (int64_t term = 0; term < source_.num_terms; ++term) {
    int64_t of_term = occurrences_[term];
    if (source_.earlier != nullptr && source_.earlier->terms[term] >= 0) {
      const Bm25Index& index = source_.earlier->index;
      int32_t first, last;
      if (!ListsOf(index, source_.earlier->terms[term], &first, &last)) return false;
      of_term += std::max<int64_t>(0, index.list_starts[2 * last + 1] - index.list_starts[2 * first + 1]);
    }
    if (occurrences > 0 && occurrences + of_term > kPartOccurrences) {
      part_terms_.push_back(term);
      occurrences = 0;
    }
    occurrences += of_term;
  }
  part_terms_.push_back(source_.num_terms);
  return true;
}

Bm25Part Bm25Builder::Encode(int64_t part) const {
  const int32_t first = static_cast<int32_t>(part_terms_[part]), last = static_cast<int32_t>(part_terms_[part + 1]);
  // Postings of a term follow each other; there are at most as many as occurrences.
  std::vector<int64_t> starts(last - first + 1), ends;
  for (int32_t term = first; term < last; ++term) starts[term - first + 1] = starts[term - first] + occurrences_[term];
  ends.assign(starts.begin(), starts.end() - 1);
  std::vector<Posting> postings(starts.back());
  TermFrequencies frequencies;
  std::vector<Occurrence> found;
  for (const int32_t place : filled_) {
    found.clear();
    for (size_t f = 0; f < source_.fields.size(); ++f) {
      const Bm25Field& field = source_.fields[f];
      for (int64_t i = field.offsets[rows_[place]]; i < field.offsets[rows_[place] + 1]; ++i) {
        const int32_t term = field.terms[i];
        if (term >= first && term < last) found.push_back({term, static_cast<int32_t>(f)});
      }
    }
    std::sort(found.begin(), found.end());
    for (auto next = found.begin(); next != found.end();) {
      const int32_t term = next->term;
      float tf = 0;
      while (next != found.end() && next->term == term) {
        const int32_t field = next->field;
        int64_t count = 0;
        for (; next != found.end() && next->term == term && next->field == field; ++next) ++count;
        tf += source_.fields[field].weight * static_cast<float>(count);
      }
      postings[ends[term - first]++] = {place, frequencies.Number(tf)};
    }
  }

  Bm25Part result;
  ListWriter lists(range_starts_, &result);
  TermWriter writer(source_.earlier, place_of_earlier_, frequencies, &lists);
  const double count = static_cast<double>(source_.num_documents);
  for (int32_t term = first; term < last; ++term) {
    result.lists.push_back(
        writer.Write(term, postings.data() + starts[term - first], postings.data() + ends[term - first]));
    if ((result.damaged = result.lists.back() < 0)) break;
    const double df = static_cast<double>(writer.documents());
    result.idf.push_back(source_.idf != nullptr ? source_.idf[term]
                                                : static_cast<float>(std::log1p((count - df + 0.5) / (df + 0.5))));
  }
  return result;
}

}  // namespace dpsr
