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

}  // namespace

float RoundedLength(float length) {
  int exponent;
  const float mantissa = std::frexp(length, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(mantissa, kLengthBits)), exponent - kLengthBits);
}

std::string SourceProblem(const Bm25Source& source) {
  const auto number = [](auto value) { return std::to_string(value); };
  if (std::max(source.num_documents, source.num_terms) > std::numeric_limits<int32_t>::max()) {
    return number(source.num_documents) + " documents of " + number(source.num_terms) +
           " terms; expected what 32 bits number";
  }
  if (!(source.k1 >= 0 && std::isfinite(source.k1))) return "k1 is " + number(source.k1) + "; expected at least 0";
  if (!(source.b >= 0 && source.b <= 1)) return "b is " + number(source.b) + "; expected 0 to 1";
  if (!(source.average_length >= 0 && std::isfinite(source.average_length))) {
    return "the average length is " + number(source.average_length) + "; expected a positive one, or 0 for the own";
  }
  for (size_t f = 0; f < source.fields.size(); ++f) {
    const Bm25Field& field = source.fields[f];
    const std::string name = "field " + number(f);
    if (!(field.weight > 0 && std::isfinite(field.weight))) {
      return name + " has weight " + number(field.weight) + "; expected a positive one";
    }
    if (field.offsets[0] != 0 || field.offsets[source.num_documents] != field.num_terms) {
      return name + " has offsets from " + number(field.offsets[0]) + " to " +
             number(field.offsets[source.num_documents]) + "; expected 0 to " + number(field.num_terms) +
             ", the number of its terms";
    }
    for (int64_t i = 0; i < source.num_documents; ++i) {
      if (field.offsets[i] > field.offsets[i + 1]) return name + " has offsets that descend at document " + number(i);
    }
    for (int64_t i = 0; i < field.num_terms; ++i) {
      if (field.terms[i] < 0 || field.terms[i] >= source.num_terms) {
        return name + " has term " + number(field.terms[i]) + " at place " + number(i) + "; expected 0 to " +
               number(source.num_terms - 1);
      }
    }
  }
  if (source.priors != nullptr) {
    for (int64_t i = 0; i < source.num_documents; ++i) {
      if (!(source.priors[i] >= 0 && std::isfinite(source.priors[i]))) {
        return "the prior of document " + number(i) + " is " + number(source.priors[i]) + "; expected at least 0";
      }
    }
  }
  if (source.idf != nullptr) {
    for (int64_t i = 0; i < source.num_terms; ++i) {
      if (!(source.idf[i] >= 0 && std::isfinite(source.idf[i]))) {
        return "the idf of term " + number(i) + " is " + number(source.idf[i]) + "; expected at least 0";
      }
    }
  }
  return "";
}

Bm25Builder::Bm25Builder(const Bm25Source& source) : source_(source), average_length_(source.average_length) {
  OrderDocuments();
  CutParts();
}

void Bm25Builder::OrderDocuments() {
  const int64_t count = source_.num_documents;
  std::vector<float> lengths(count);
  double total = 0;
  for (int64_t row = 0; row < count; ++row) {
    for (const Bm25Field& field : source_.fields) {
      lengths[row] += field.weight * static_cast<float>(field.offsets[row + 1] - field.offsets[row]);
    }
    total += lengths[row];
    lengths[row] = RoundedLength(lengths[row]);
  }
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
      if (source_.priors != nullptr) std::sort(first, end);
      first = end;
    }
  }
}

void Bm25Builder::CutParts() {
  occurrences_.resize(source_.num_terms);
  for (const Bm25Field& field : source_.fields) {
    for (int64_t i = 0; i < field.num_terms; ++i) ++occurrences_[field.terms[i]];
  }
  int64_t occurrences = 0;
  for (int64_t term = 0; term < source_.num_terms; ++term) {
    if (occurrences > 0 && occurrences + occurrences_[term] > kPartOccurrences) {
      part_terms_.push_back(term);
      occurrences = 0;
    }
    occurrences += occurrences_[term];
  }
  part_terms_.push_back(source_.num_terms);
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
  for (size_t place = 0; place < rows_.size(); ++place) {
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
      postings[ends[term - first]++] = {static_cast<int32_t>(place), frequencies.Number(tf)};
    }
  }

  Bm25Part result;
  ListWriter writer(range_starts_, &result);
  std::vector<int32_t> places;
  std::vector<uint16_t> numbers;
  for (int32_t term = first; term < last; ++term) {
    const Posting* const begin = postings.data() + starts[term - first];
    const Posting* const end = postings.data() + ends[term - first];
    const double df = static_cast<double>(end - begin), count = static_cast<double>(source_.num_documents);
    result.idf.push_back(source_.idf != nullptr ? source_.idf[term]
                                                : static_cast<float>(std::log1p((count - df + 0.5) / (df + 0.5))));
    numbers.clear();
    for (const Posting* posting = begin; posting < end; ++posting) {
      if (std::find(numbers.begin(), numbers.end(), posting->tf) == numbers.end()) numbers.push_back(posting->tf);
    }
    std::sort(numbers.begin(), numbers.end(),
              [&](uint16_t a, uint16_t b) { return frequencies.value(a) < frequencies.value(b); });
    for (const uint16_t number : numbers) {
      places.clear();
      for (const Posting* posting = begin; posting < end; ++posting) {
        if (posting->tf == number) places.push_back(posting->place);
      }
      writer.Write(places.data(), static_cast<int64_t>(places.size()), frequencies.value(number));
    }
    result.lists.push_back(static_cast<int32_t>(numbers.size()));
  }
  return result;
}

}  // namespace dpsr
