#include "ops_cc/core/bm25/source.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace dpsr {
namespace {

std::string EarlierProblem(const Bm25Source& source, const Bm25Earlier& earlier) {
  const auto number = [](auto value) { return std::to_string(value); };
  if (source.priors != nullptr) return "priors are given beside an earlier index; expected none";
  int64_t last = -1;
  for (int64_t row = 0; row < earlier.index.num_documents; ++row) {
    const int64_t document = earlier.documents[row];
    if (document == -1) continue;
    if (document <= last || document >= source.num_documents) {
      return "row " + number(row) + " of the earlier index is document " + number(document) +
             "; expected an ascending one below " + number(source.num_documents) + ", or -1";
    }
    for (const Bm25Field& field : source.fields) {
      if (field.offsets[document] != field.offsets[document + 1]) {
        return "document " + number(document) + " has terms, and postings of the earlier index; expected one of them";
      }
    }
    last = document;
  }
  for (int64_t term = 0; term < source.num_terms; ++term) {
    if (earlier.terms[term] < -1 || earlier.terms[term] >= earlier.index.num_terms) {
      return "term " + number(term) + " is term " + number(earlier.terms[term]) +
             " of the earlier index; expected -1 to " + number(earlier.index.num_terms - 1);
    }
  }
  return "";
}

}  // namespace

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
  if (source.earlier != nullptr) {
    const std::string problem = EarlierProblem(source, *source.earlier);
    if (!problem.empty()) return problem;
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

}  // namespace dpsr
