#include "tokenizer_cc/core/subwords/model_file.h"

#include <cstring>

#include "tokenizer_cc/core/subwords/precompiled.h"
#include "tokenizer_cc/core/text/hf_unicode.h"
#include "tokenizer_cc/core/text/utf8.h"

namespace dpsr {
namespace {

constexpr uint64_t kMaxSectionBytes = uint64_t{1} << 40;

std::string CheckHeader(const ModelBytes& model) {
  const std::string problem = CheckFile(model, kSubwordFile);
  if (!problem.empty()) return problem;
  const auto& header = *reinterpret_cast<const SubwordHeader*>(model.data());
  if (header.rules_version != kSubwordRules ||
      std::strncmp(header.library_version, hf::kVersion, sizeof(header.library_version)) != 0) {
    return "made for rules " + std::to_string(header.rules_version) + " of tokenizers " +
           Quoted(header.library_version, sizeof(header.library_version)) + ", this build has rules " +
           std::to_string(kSubwordRules) + " of tokenizers '" + hf::kVersion +
           "'; use the version of dpsr that made it, or prepare the data again";
  }
  for (const uint64_t bytes : header.section_bytes) {
    if (bytes > kMaxSectionBytes) return "corrupt: impossible size of a section";
  }
  if (SubwordFileBytes(header) != model.size()) return "corrupt: the sections do not fill the file";
  if (static_cast<uint32_t>(header.kind) >= kSubwordKinds) return "corrupt: an unknown kind of model";
  return "";
}

// Sizes that follow from the number of ids.
bool SizesFit(const SubwordSections& model) {
  const SubwordHeader& header = model.header();
  const uint64_t ids = header.num_ids;
  const uint64_t* bytes = header.section_bytes;
  const auto whole = [&](SubwordSection section, size_t element) { return bytes[section] % element == 0; };
  bool fit = ids > 0 && bytes[kNameBegin] == (ids + 1) * sizeof(uint64_t) && bytes[kContinues] == ids;
  fit &= bytes[kScores] == (header.kind == SubwordKind::kUnigram ? ids * sizeof(double) : 0);
  for (const SubwordSection trie : {kPieces, kAddedRaw, kAddedNormalized}) fit &= whole(trie, sizeof(TrieUnit));
  fit &= whole(kMerges, sizeof(Merge)) && whole(kAdded, sizeof(AddedToken)) && whole(kSteps, sizeof(Step));
  fit &= header.kind == SubwordKind::kBpe ? bytes[kMerges] != 0 : bytes[kMerges] == 0;
  for (const int32_t role : header.roles) fit &= role >= 0 && static_cast<uint64_t>(role) < ids;
  return fit;
}

bool NamesAreSound(const SubwordSections& model) {
  const auto* begin = model.data<uint64_t>(kNameBegin);
  const uint64_t ids = model.header().num_ids;
  bool sound = begin[0] == 0 && begin[ids] == model.size<char>(kNames);
  for (uint64_t i = 0; i < ids; ++i) sound &= begin[i] <= begin[i + 1];
  return sound;
}

bool TriesAreSound(const SubwordSections& model) {
  const auto* added = model.data<AddedToken>(kAdded);
  const size_t count = model.size<AddedToken>(kAdded);
  bool sound = model.trie(kPieces).IsSound(model.header().num_ids);
  for (const SubwordSection section : {kAddedRaw, kAddedNormalized}) {
    sound &= model.trie(section).empty() || model.trie(section).IsSound(count);
  }
  for (size_t i = 0; i < count; ++i) {
    sound &= added[i].id >= 0 && static_cast<uint32_t>(added[i].id) < model.header().num_ids;
  }
  return sound;
}

// A search for a merge ends at an empty slot, and trusts ids.
bool MergesAreSound(const SubwordSections& model) {
  const auto* merges = model.data<Merge>(kMerges);
  bool has_empty = model.size<Merge>(kMerges) == 0, sound = true;
  for (size_t i = 0; i < model.size<Merge>(kMerges); ++i) {
    has_empty |= merges[i].left == kNoMerge;
    sound &= merges[i].left == kNoMerge || merges[i].merged < model.header().num_ids;
  }
  return has_empty && sound;
}

bool StepsAreSound(const SubwordSections& model) {
  const auto* steps = model.data<Step>(kSteps);
  const uint64_t bytes = model.size<char>(kStepTexts);
  StepKind last = StepKind::kBert;
  int metaspaces = 0;
  bool sound = true;
  for (size_t i = 0; i < model.size<Step>(kSteps); ++i) {
    const Step& step = steps[i];
    const bool normalizer = step.kind <= StepKind::kLastNormalizer;
    sound &= normalizer || (step.kind >= StepKind::kBertWords && step.kind <= StepKind::kLastPreTokenizer);
    sound &= !normalizer || last <= StepKind::kLastNormalizer;
    sound &= uint64_t{step.first_begin} + step.first_size <= bytes;
    sound &= uint64_t{step.second_begin} + step.second_size <= bytes;
    sound &= (step.kind != StepKind::kReplace && step.kind != StepKind::kMetaspace) || step.first_size != 0;
    if (!sound) break;
    sound &= step.kind == StepKind::kPrecompiled ? Precompiled::IsSound(model.first(step))
                                                 : IsWellFormed(model.first(step)) && IsWellFormed(model.second(step));
    metaspaces += step.kind == StepKind::kMetaspace;
    last = step.kind;
  }
  return sound && metaspaces <= 1;
}

}  // namespace

SubwordSections::SubwordSections(const ModelBytes& model)
    : header_(reinterpret_cast<const SubwordHeader*>(model.data())) {
  uint64_t begin = sizeof(SubwordHeader);
  for (int section = 0; section < kSubwordSections; ++section) {
    begins_[section] = model.data() + begin;
    begin += RoundUp8(header_->section_bytes[section]);
  }
}

uint64_t SubwordFileBytes(const SubwordHeader& header) {
  uint64_t bytes = sizeof(SubwordHeader);
  for (const uint64_t section : header.section_bytes) bytes += RoundUp8(section);
  return bytes;
}

std::string CheckSubwordModel(const ModelBytes& model) {
  std::string problem = CheckHeader(model);
  if (!problem.empty()) return problem;
  const SubwordSections sections(model);
  if (!SizesFit(sections)) return "corrupt: the sizes of the sections do not fit one another";
  if (!NamesAreSound(sections)) return "corrupt: the names of the subwords are damaged";
  if (!TriesAreSound(sections)) return "corrupt: a lookup table is damaged";
  if (!MergesAreSound(sections)) return "corrupt: the merges are damaged";
  return StepsAreSound(sections) ? "" : "corrupt: the steps of the pipeline are damaged";
}

}  // namespace dpsr
