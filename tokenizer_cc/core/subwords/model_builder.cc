#include "tokenizer_cc/core/subwords/model_builder.h"

#include <cstring>

#include "tokenizer_cc/core/hashing.h"
#include "tokenizer_cc/core/subwords/bpe.h"
#include "tokenizer_cc/core/text/hf_unicode.h"

namespace dpsr {
namespace {

// The content of the sections.
struct Content {
  std::string sections[kSubwordSections];

  template <class T>
  void Append(SubwordSection section, const T* elements, size_t count) {
    sections[section].append(reinterpret_cast<const char*>(elements), count * sizeof(T));
  }
};

void AddNames(const SubwordSpec& spec, Content* content) {
  std::vector<uint64_t> begin(1, 0);
  for (const std::string& name : spec.names) {
    content->Append(kNames, name.data(), name.size());
    begin.push_back(content->sections[kNames].size());
  }
  content->Append(kNameBegin, begin.data(), begin.size());
  content->Append(kContinues, spec.continues.data(), spec.continues.size());
}

void AddMerges(const std::vector<Merge>& merges, Content* content) {
  // Half of it stays empty, so that probes are short.
  std::vector<Merge> table(2 * merges.size() + 1, {kNoMerge, 0, 0, 0});
  for (const Merge& merge : merges) {
    size_t i = Bpe::SlotOf(merge.left, merge.right, table.size());
    // Of equal pairs the last one counts.
    while (table[i].left != kNoMerge && (table[i].left != merge.left || table[i].right != merge.right)) {
      i = i + 1 == table.size() ? 0 : i + 1;
    }
    table[i] = merge;
  }
  content->Append(kMerges, table.data(), table.size());
}

void AddTrie(SubwordSection section, std::vector<std::pair<std::string, int32_t>> keys, Content* content) {
  const std::vector<TrieUnit> units = Trie::Build(std::move(keys));
  content->Append(section, units.data(), units.size());
}

void AddAddedTokens(const std::vector<AddedTokenSpec>& added, Content* content) {
  std::vector<std::pair<std::string, int32_t>> raw, normalized;
  for (const AddedTokenSpec& spec : added) {
    const auto place = static_cast<int32_t>(content->sections[kAdded].size() / sizeof(AddedToken));
    content->Append(kAdded, &spec.token, 1);
    (spec.token.flags & kNormalized ? normalized : raw).emplace_back(spec.text, place);
  }
  if (!raw.empty()) AddTrie(kAddedRaw, std::move(raw), content);
  if (!normalized.empty()) AddTrie(kAddedNormalized, std::move(normalized), content);
}

void AddSteps(const std::vector<StepSpec>& steps, Content* content) {
  std::string& texts = content->sections[kStepTexts];
  for (const StepSpec& spec : steps) {
    Step step = {spec.kind, spec.flags,
                 0,         static_cast<uint32_t>(spec.first.size()),
                 0,         static_cast<uint32_t>(spec.second.size())};
    step.first_begin = static_cast<uint32_t>(texts.size());
    texts += spec.first;
    step.second_begin = static_cast<uint32_t>(texts.size());
    texts += spec.second;
    content->Append(kSteps, &step, 1);
  }
}

SubwordHeader MakeHeader(const SubwordSpec& spec, const Content& content) {
  SubwordHeader header{};
  std::strncpy(header.library_version, hf::kVersion, sizeof(header.library_version) - 1);
  header.rules_version = kSubwordRules;
  header.kind = spec.kind;
  std::memcpy(header.roles, spec.roles, sizeof(header.roles));
  header.num_ids = static_cast<uint32_t>(spec.names.size());
  header.max_word_characters = spec.max_word_characters;
  header.fuse_unknown = spec.fuse_unknown;
  header.ignore_merges = spec.ignore_merges;
  header.unknown_score = spec.unknown_score;
  for (int section = 0; section < kSubwordSections; ++section) {
    header.section_bytes[section] = content.sections[section].size();
  }
  return header;
}

}  // namespace

std::string BuildSubwordModel(const SubwordSpec& spec, ModelBytes* model) {
  Content content;
  AddNames(spec, &content);
  content.Append(kScores, spec.scores.data(), spec.scores.size());
  AddTrie(kPieces, spec.pieces, &content);
  if (spec.kind == SubwordKind::kBpe) AddMerges(spec.merges, &content);
  AddAddedTokens(spec.added, &content);
  AddSteps(spec.steps, &content);
  content.sections[kPrefix] = spec.prefix;

  const SubwordHeader header = MakeHeader(spec, content);
  *model = ModelBytes(SubwordFileBytes(header));
  std::memcpy(model->data(), &header, sizeof(header));
  uint8_t* end = model->data() + sizeof(header);
  for (const std::string& section : content.sections) {
    std::memcpy(end, section.data(), section.size());
    end += RoundUp8(section.size());
  }
  Sign(kSubwordFile, model);
  return CheckSubwordModel(*model);
}

}  // namespace dpsr
