#include "tokenizer_cc/core/terms/model_file.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "tokenizer_cc/core/text/unicode_tables.h"

namespace dpsr {
namespace {

constexpr uint64_t kMaxSectionBytes = uint64_t{1} << 40;
constexpr uint32_t kMaxTerms = uint32_t{1} << 31;

std::string CheckHeader(const ModelBytes& model) {
  const std::string problem = CheckFile(model, kTermFile);
  if (!problem.empty()) return problem;
  const auto& header = *reinterpret_cast<const TermHeader*>(model.data());
  if (header.rules_version != kTermRules ||
      std::strncmp(header.unicode_version, unicode::kVersion, sizeof(header.unicode_version)) != 0) {
    return "made for rules " + std::to_string(header.rules_version) + " of terms under Unicode " +
           Quoted(header.unicode_version, sizeof(header.unicode_version)) + ", this build has rules " +
           std::to_string(kTermRules) + " under Unicode '" + unicode::kVersion +
           "'; use the version of dpsr that made it, or export again";
  }
  for (const uint64_t bytes : header.section_bytes) {
    if (bytes > kMaxSectionBytes) return "corrupt: impossible size of a section";
  }
  if (TermFileBytes(header) != model.size()) return "corrupt: the sections do not fill the file";
  return "";
}

// The number of terms decides the sizes of sections by id.
std::string CheckSizes(const TermSections& model) {
  const uint64_t terms = model.header().num_terms;
  const bool right = terms < kMaxTerms && model.header().section_bytes[kTermFrequencies] == terms * sizeof(int32_t) &&
                     model.header().section_bytes[kTermTextBegin] == (terms + 1) * sizeof(uint32_t) &&
                     model.size<uint8_t>(kTermTexts) >= kTermPadding && model.size<TermSlot>(kTermSlots) > 0 &&
                     model.size<uint32_t>(kTermPostingBegin) > 1;
  return right ? "" : "corrupt: impossible size of a section";
}

// An array of begins that ascends from 0 to `end`.
bool IsPartition(const uint32_t* begins, size_t count, uint64_t end) {
  return begins[0] == 0 && begins[count - 1] == end && std::is_sorted(begins, begins + count);
}

std::string CheckTexts(const TermSections& model) {
  const size_t bytes = model.size<uint8_t>(kTermTexts) - kTermPadding;
  const bool right = IsPartition(model.data<uint32_t>(kTermTextBegin), model.size<uint32_t>(kTermTextBegin), bytes);
  return right ? "" : "corrupt: the texts are damaged";
}

// A lookup ends at an empty slot, and trusts ids.
std::string CheckSlots(const TermSections& model) {
  const auto* slots = model.data<TermSlot>(kTermSlots);
  bool has_empty = false;
  uint32_t largest = 0;
  for (size_t i = 0; i < model.size<TermSlot>(kTermSlots); ++i) {
    has_empty |= slots[i].place == 0;
    largest = std::max(largest, slots[i].place);
  }
  return has_empty && largest <= model.header().num_terms ? "" : "corrupt: the lookup table is damaged";
}

std::string CheckSpelling(const TermSections& model) {
  const auto* letters = model.data<uint32_t>(kTermLetters);
  const auto* postings = model.data<int32_t>(kTermPostings);
  const size_t size = model.size<int32_t>(kTermPostings);
  bool right = std::all_of(letters, letters + model.size<uint32_t>(kTermLetters),
                           [](uint32_t letter) { return letter < 0x110000; });
  right &= IsPartition(model.data<uint32_t>(kTermPostingBegin), model.size<uint32_t>(kTermPostingBegin), size);
  uint32_t largest = 0;
  for (size_t i = 0; i < size; ++i) largest = std::max(largest, static_cast<uint32_t>(postings[i]));
  return right && (size == 0 || largest < model.header().num_terms) ? "" : "corrupt: the trigrams are damaged";
}

}  // namespace

TermSections::TermSections(const ModelBytes& model) : header_(reinterpret_cast<const TermHeader*>(model.data())) {
  const uint8_t* p = model.data() + sizeof(TermHeader);
  for (int section = 0; section < kTermSections; ++section) {
    begins_[section] = p;
    p += RoundUp8(header_->section_bytes[section]);
  }
}

uint64_t TermFileBytes(const TermHeader& header) {
  uint64_t size = sizeof(TermHeader);
  for (const uint64_t bytes : header.section_bytes) size += RoundUp8(bytes);
  return size;
}

std::string CheckTermModel(const ModelBytes& model) {
  std::string problem = CheckHeader(model);
  if (!problem.empty()) return problem;
  const TermSections sections(model);
  for (const auto check : {CheckSizes, CheckTexts, CheckSlots, CheckSpelling}) {
    problem = check(sections);
    if (!problem.empty()) return problem;
  }
  return "";
}

}  // namespace dpsr
