// libFuzzer over building, searching and taking over: an index of drawn documents against the scores of all documents
// and against one that is built of all terms; of damaged arrays nothing is read or written out of bounds.

#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "ops_cc/core/bm25/build.h"
#include "ops_cc/core/bm25/earlier.h"
#include "ops_cc/core/bm25/random_catalogue.h"
#include "ops_cc/core/bm25/search.h"

namespace {

using dpsr::Bm25Index;
using dpsr::BuiltIndex;

void Check(bool condition) {
  if (!condition) std::abort();
}

struct Documents {
  std::vector<std::vector<int64_t>> offsets;
  std::vector<std::vector<int32_t>> terms;
  std::vector<float> weights;

  dpsr::Bm25Source source(int64_t num_terms, float k1, float b) const {
    dpsr::Bm25Source source{};
    for (size_t f = 0; f < terms.size(); ++f) {
      source.fields.push_back({offsets[f].data(), terms[f].data(), static_cast<int64_t>(terms[f].size()), weights[f]});
    }
    source.num_documents = static_cast<int64_t>(offsets[0].size()) - 1;
    source.num_terms = num_terms;
    source.k1 = k1;
    source.b = b;
    return source;
  }
};

// The documents of which kept[row] differs from `kept_value`; the others have no term.
Documents Part(const Documents& all, const std::vector<uint8_t>& kept) {
  Documents part{{}, {}, all.weights};
  for (size_t f = 0; f < all.terms.size(); ++f) {
    part.offsets.push_back({0});
    part.terms.emplace_back();
    for (size_t row = 0; row < kept.size(); ++row) {
      if (!kept[row]) {
        part.terms[f].insert(part.terms[f].end(), all.terms[f].begin() + all.offsets[f][row],
                             all.terms[f].begin() + all.offsets[f][row + 1]);
      }
      part.offsets[f].push_back(static_cast<int64_t>(part.terms[f].size()));
    }
  }
  return part;
}

void Search(const Bm25Index& index, const std::vector<int32_t>& terms, const uint8_t* removed, int64_t k,
            bool damaged) {
  static dpsr::Bm25Searcher searcher;
  const std::vector<float> weights(terms.size(), 1.0f);
  const dpsr::Bm25Query query{terms.data(), weights.data(), static_cast<int64_t>(terms.size())};
  std::vector<int32_t> rows(k);
  std::vector<float> scores(k), again(k), all(index.num_documents);
  const std::string problem = searcher.Search(index, query, {nullptr, removed}, k, rows.data(), scores.data());
  if (damaged) {
    std::vector<int32_t> every(index.num_documents);
    for (size_t row = 0; row < every.size(); ++row) every[row] = static_cast<int32_t>(row);
    searcher.Score(index, query, every.data(), index.num_documents, all.data());
    return;
  }
  Check(problem.empty());
  Check(searcher.Score(index, query, rows.data(), k, again.data()).empty());
  Check(again == scores);
  for (int64_t i = 1; i < k; ++i)
    Check(scores[i - 1] > scores[i] || (scores[i - 1] == scores[i] && (rows[i] < 0 || rows[i - 1] < rows[i])));
  std::vector<int32_t> every;
  for (int32_t row = 0; row < index.num_documents; ++row) {
    if (removed == nullptr || !(removed[row / 8] >> row % 8 & 1)) every.push_back(row);
  }
  all.resize(every.size());
  Check(searcher.Score(index, query, every.data(), static_cast<int64_t>(every.size()), all.data()).empty());
  std::sort(all.begin(), all.end(), std::greater<float>());
  all.resize(k, 0.0f);
  Check(all == scores);
}

// Puts bytes of the input over places of an array.
template <typename T>
void Damage(std::vector<T>* values, FuzzedDataProvider* data) {
  for (int count = data->ConsumeIntegralInRange(0, 2); count > 0 && !values->empty(); --count) {
    const auto place = data->ConsumeIntegralInRange<size_t>(0, values->size() - 1);
    const auto bytes = data->ConsumeBytes<uint8_t>(sizeof(T));
    if (!bytes.empty()) std::memcpy(values->data() + place, bytes.data(), bytes.size());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  FuzzedDataProvider data(bytes, size);
  const int32_t num_terms = data.ConsumeIntegralInRange(1, 12);
  // More documents than an array of a range holds, now and then, which then is a bitmap.
  const int repeated = data.ConsumeIntegralInRange(0, 15) == 0 ? 12 : 1;
  const int64_t count = data.ConsumeIntegralInRange(1, 60);
  const float k1 = data.ConsumeFloatingPointInRange(0.0f, 3.0f), b = data.ConsumeFloatingPointInRange(0.0f, 1.0f);
  const bool damaged = data.ConsumeBool();
  Documents all;
  for (int field = data.ConsumeIntegralInRange(1, 2); field > 0; --field) {
    all.weights.push_back(data.ConsumeFloatingPointInRange(0.1f, 3.0f));
    all.offsets.push_back({0});
    all.terms.emplace_back();
    for (int64_t row = 0; row < count; ++row) {
      std::vector<int32_t> text(data.ConsumeIntegralInRange(0, 6));
      for (int32_t& term : text) term = data.ConsumeIntegralInRange(0, num_terms - 1);
      for (int copy = 0; copy < repeated; ++copy) {
        all.terms.back().insert(all.terms.back().end(), text.begin(), text.end());
        all.offsets.back().push_back(static_cast<int64_t>(all.terms.back().size()));
      }
    }
  }
  std::vector<int32_t> query(data.ConsumeIntegralInRange(0, 5));
  for (int32_t& term : query) term = data.ConsumeIntegralInRange(-1, num_terms - 1);
  const int64_t documents = count * repeated, k = data.ConsumeIntegralInRange(1, 70);
  std::vector<uint8_t> kept(documents), removed((documents + 7) / 8);
  for (uint8_t& each : kept) each = data.ConsumeBool();
  for (uint8_t& each : removed) each = data.ConsumeIntegral<uint8_t>();

  const dpsr::Bm25Source source = all.source(num_terms, k1, b);
  Check(dpsr::SourceProblem(source).empty());
  BuiltIndex built(source);
  std::vector<float> lengths = built.range_lengths;
  if (damaged) {
    Damage(&built.rows, &data);
    Damage(&built.places, &data);
    Damage(&built.range_starts, &data);
    Damage(&built.range_values, &data);
    Damage(&built.idf, &data);
    Damage(&built.term_lists, &data);
    Damage(&built.list_weights, &data);
    Damage(&built.list_starts, &data);
    Damage(&built.entries, &data);
    Damage(&built.postings, &data);
    Damage(&lengths, &data);
    if (!dpsr::IndexProblem(built.view()).empty()) return 0;
  }
  Search(built.view(), query, nullptr, k, damaged);
  Search(built.view(), query, removed.data(), k, damaged);

  std::vector<int32_t> taken(documents, -1), terms(num_terms), counts(num_terms);
  for (int64_t row = 0; row < documents; ++row) taken[row] = kept[row] ? static_cast<int32_t>(row) : -1;
  for (int32_t term = 0; term < num_terms; ++term) terms[term] = term;
  dpsr::CountDocuments(built.view(), kept.data(), 0, num_terms, counts.data());
  const dpsr::Bm25Earlier earlier{built.view(), lengths.data(), taken.data(), terms.data()};
  const Documents part = Part(all, kept);
  dpsr::Bm25Source merged = part.source(num_terms, k1, b);
  merged.earlier = &earlier;
  Check(dpsr::SourceProblem(merged).empty());
  const dpsr::Bm25Builder builder(merged);
  if (builder.damaged()) {
    Check(damaged);
    return 0;
  }
  for (int64_t number = 0; number < builder.num_parts(); ++number) {
    const dpsr::Bm25Part one = builder.Encode(number);
    Check(damaged || !one.damaged);
  }
  if (damaged) return 0;
  const BuiltIndex again(merged);
  Check(again.rows == built.rows && again.range_starts == built.range_starts && again.idf == built.idf);
  Check(again.range_values == built.range_values && again.range_lengths == built.range_lengths);
  Check(again.term_lists == built.term_lists && again.list_weights == built.list_weights);
  Check(again.list_starts == built.list_starts && again.entries == built.entries && again.postings == built.postings);
  return 0;
}
