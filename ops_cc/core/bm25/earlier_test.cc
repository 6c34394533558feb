// Indexes that take over postings against those that are built of all terms.

#include "ops_cc/core/bm25/earlier.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "ops_cc/core/bm25/build.h"
#include "ops_cc/core/bm25/random_catalogue.h"

namespace dpsr {
namespace {

// A catalogue without the terms of the documents that `taken` names.
std::vector<std::vector<int64_t>> EmptyTaken(const std::vector<bool>& taken, RandomCatalogue* catalogue) {
  std::vector<std::vector<int64_t>> offsets;
  for (size_t f = 0; f < catalogue->texts.size(); ++f) {
    offsets.push_back({0});
    std::vector<int32_t> terms;
    for (size_t row = 0; row < taken.size(); ++row) {
      const auto& text = catalogue->texts[f][row];
      if (!taken[row]) terms.insert(terms.end(), text.begin(), text.end());
      offsets[f].push_back(static_cast<int64_t>(terms.size()));
    }
    catalogue->flat[f] = terms;
    catalogue->source.fields[f].terms = catalogue->flat[f].data();
    catalogue->source.fields[f].num_terms = static_cast<int64_t>(terms.size());
    catalogue->source.fields[f].offsets = offsets[f].data();
  }
  return offsets;
}

TEST(Bm25Earlier, PostingsThatAreTakenOverAreThoseOfTheTerms) {
  const std::vector<CatalogueShape> shapes = {{1, 1, 3}, {500, 40, 9, 2}, {40'000, 30, 4}, {3'000, 5'000, 12, 3}};
  for (size_t number = 0; number < shapes.size(); ++number) {
    RandomCatalogue catalogue(shapes[number], static_cast<int>(number));
    const BuiltIndex whole(catalogue.source);
    std::vector<bool> taken(shapes[number].documents);
    std::vector<int32_t> documents, terms(shapes[number].terms);
    for (size_t row = 0; row < taken.size(); ++row) {
      taken[row] = catalogue.random() % 10 != 0;
      documents.push_back(taken[row] ? static_cast<int32_t>(row) : -1);
    }
    std::iota(terms.begin(), terms.end(), 0);
    const Bm25Earlier earlier{whole.view(), whole.range_lengths.data(), documents.data(), terms.data()};
    const auto offsets = EmptyTaken(taken, &catalogue);
    catalogue.source.earlier = &earlier;
    ASSERT_EQ(SourceProblem(catalogue.source), "");
    const BuiltIndex merged(catalogue.source);
    EXPECT_EQ(merged.rows, whole.rows);
    EXPECT_EQ(merged.average_length, whole.average_length);
    EXPECT_EQ(merged.range_starts, whole.range_starts);
    EXPECT_EQ(merged.range_values, whole.range_values);
    EXPECT_EQ(merged.range_lengths, whole.range_lengths);
    EXPECT_EQ(merged.idf, whole.idf);
    EXPECT_EQ(merged.term_lists, whole.term_lists);
    EXPECT_EQ(merged.list_weights, whole.list_weights);
    EXPECT_EQ(merged.list_starts, whole.list_starts);
    EXPECT_EQ(merged.entries, whole.entries);
    EXPECT_EQ(merged.postings, whole.postings);
  }
}

}  // namespace
}  // namespace dpsr
