// Random catalogues, their indexes, and BM25 of every document in plain loops, for tests.

#ifndef DPSR_OPS_CC_CORE_BM25_RANDOM_CATALOGUE_H_
#define DPSR_OPS_CC_CORE_BM25_RANDOM_CATALOGUE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "ops_cc/core/bm25/build.h"
#include "ops_cc/core/bm25/search.h"

namespace dpsr {

struct CatalogueShape {
  int64_t documents;
  int64_t terms;
  int64_t longest;
  int64_t fields = 1;
  bool priors = false;
  double skew = 3;  // of the terms: the higher, the more documents share the first ones
  float k1 = 1.2f;
  float b = 0.75f;
};

struct RandomCatalogue {
  RandomCatalogue(const CatalogueShape& shape, int seed) : random(seed) {
    texts.resize(shape.fields);
    offsets.resize(shape.fields);
    flat.resize(shape.fields);
    std::uniform_real_distribution<double> uniform(0, 1);
    for (int64_t f = 0; f < shape.fields; ++f) {
      texts[f].resize(shape.documents);
      offsets[f].push_back(0);
      for (auto& text : texts[f]) {
        const int64_t length = random() % (shape.longest + 1);
        for (int64_t i = 0; i < length; ++i) {
          text.push_back(static_cast<int32_t>(shape.terms * std::pow(uniform(random), shape.skew)));
        }
        flat[f].insert(flat[f].end(), text.begin(), text.end());
        offsets[f].push_back(static_cast<int64_t>(flat[f].size()));
      }
    }
    if (shape.priors) {
      for (int64_t i = 0; i < shape.documents; ++i) priors.push_back(static_cast<float>(random() % 50) / 10);
    }
    source = {{}, shape.documents, shape.terms, shape.k1, shape.b, shape.priors ? priors.data() : nullptr, nullptr, 0};
    constexpr float kWeights[] = {1.0f, 2.5f, 0.3f};
    for (int64_t f = 0; f < shape.fields; ++f) {
      source.fields.push_back(
          {offsets[f].data(), flat[f].data(), static_cast<int64_t>(flat[f].size()), kWeights[f % 3]});
    }
  }

  std::mt19937 random;
  std::vector<std::vector<std::vector<int32_t>>> texts;  // [field][document]
  std::vector<std::vector<int64_t>> offsets;
  std::vector<std::vector<int32_t>> flat;
  std::vector<float> priors;
  Bm25Source source;
};

// The arrays of an index.
struct BuiltIndex {
  explicit BuiltIndex(const Bm25Source& source) {
    const Bm25Builder builder(source);
    rows = builder.rows();
    range_starts = builder.range_starts();
    range_values = builder.range_values();
    range_lengths = builder.range_lengths();
    average_length = builder.average_length();
    places.resize(rows.size());
    for (size_t place = 0; place < rows.size(); ++place) places[rows[place]] = static_cast<int32_t>(place);
    if (source.priors != nullptr) {
      for (const int32_t row : rows) priors.push_back(source.priors[row]);
    }
    for (int64_t part = 0; part < builder.num_parts(); ++part) {
      const Bm25Part one = builder.Encode(part);
      const int64_t entry = static_cast<int64_t>(entries.size()) / 2, unit = static_cast<int64_t>(postings.size());
      idf.insert(idf.end(), one.idf.begin(), one.idf.end());
      for (const int32_t lists : one.lists) term_lists.push_back(term_lists.back() + lists);
      list_weights.insert(list_weights.end(), one.list_weights.begin(), one.list_weights.end());
      for (size_t i = 0; i < one.list_ends.size(); ++i) {
        list_starts.push_back(one.list_ends[i] + (i % 2 == 0 ? entry : unit));
      }
      entries.insert(entries.end(), one.entries.begin(), one.entries.end());
      postings.insert(postings.end(), one.postings.begin(), one.postings.end());
    }
  }

  Bm25Index view() const {
    return {static_cast<int64_t>(rows.size()),
            static_cast<int64_t>(range_starts.size()) - 1,
            static_cast<int64_t>(idf.size()),
            static_cast<int64_t>(list_weights.size()),
            static_cast<int64_t>(entries.size()) / 2,
            static_cast<int64_t>(postings.size()),
            rows.data(),
            places.data(),
            priors.empty() ? nullptr : priors.data(),
            range_starts.data(),
            range_values.data(),
            idf.data(),
            term_lists.data(),
            list_weights.data(),
            list_starts.data(),
            entries.data(),
            postings.data()};
  }

  float average_length;
  std::vector<int32_t> rows, places, range_starts, term_lists = {0};
  std::vector<float> priors, range_values, range_lengths, idf, list_weights;
  std::vector<int64_t> list_starts = {0, 0};
  std::vector<uint16_t> entries, postings;
};

// The scores of all documents in steps, and in double precision; 0 without a term of the query.
struct Scores {
  std::vector<int64_t> steps;
  std::vector<double> exact;
  double step;

  float score(int64_t row) const { return static_cast<float>(steps[row]) * static_cast<float>(step); }
};

inline Scores ScoreAll(const RandomCatalogue& catalogue, const std::vector<std::pair<int32_t, float>>& query) {
  const Bm25Source& source = catalogue.source;
  std::map<int32_t, float> weights;
  for (const auto& [term, weight] : query) {
    if (term >= 0 && weight > 0) weights[term] += weight;
  }
  std::vector<float> lengths(source.num_documents);
  double total = 0;
  for (int64_t i = 0; i < source.num_documents; ++i) {
    for (size_t f = 0; f < source.fields.size(); ++f) {
      lengths[i] += source.fields[f].weight * static_cast<float>(catalogue.texts[f][i].size());
    }
    lengths[i] = RoundedLength(lengths[i]);
    total += lengths[i];
  }
  const double average = total > 0 ? total / source.num_documents : 1;
  double most = 0;
  for (const float prior : catalogue.priors) most = std::max<double>(most, prior);
  std::map<int32_t, float> bases;
  for (const auto& [term, weight] : weights) {
    int64_t df = 0;
    for (int64_t i = 0; i < source.num_documents; ++i) {
      df += std::any_of(catalogue.texts.begin(), catalogue.texts.end(), [&, term = term](const auto& field) {
        return std::count(field[i].begin(), field[i].end(), term);
      });
    }
    bases[term] = weight * static_cast<float>(std::log(1 + (source.num_documents - df + 0.5) / (df + 0.5)));
    most += bases[term];
  }
  Scores scores{std::vector<int64_t>(source.num_documents), std::vector<double>(source.num_documents),
                std::exp2(std::floor(std::log2(most)) + 1 - 30)};
  for (int64_t i = 0; i < source.num_documents; ++i) {
    const float norm = source.k1 * (1 - source.b + source.b * lengths[i] / static_cast<float>(average));
    for (const auto& [term, base] : bases) {
      float tf = 0;
      for (size_t f = 0; f < source.fields.size(); ++f) {
        const auto& text = catalogue.texts[f][i];
        tf += source.fields[f].weight * static_cast<float>(std::count(text.begin(), text.end(), term));
      }
      if (tf == 0) continue;
      scores.steps[i] += std::max(1L, std::lrint(base * (tf / (tf + norm)) / scores.step));
      scores.exact[i] += double{base} * tf / (tf + norm);
    }
    if (scores.steps[i] > 0 && !catalogue.priors.empty()) {
      scores.steps[i] += std::lrint(catalogue.priors[i] / scores.step);
      scores.exact[i] += catalogue.priors[i];
    }
  }
  return scores;
}

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_BM25_RANDOM_CATALOGUE_H_
