#include "tokenizer_cc/core/subwords/subword_tokenizer.h"

#include <utility>

#include "tokenizer_cc/core/text/ascii.h"
#include "tokenizer_cc/core/text/utf8.h"

namespace dpsr {

SubwordTokenizer::SubwordTokenizer(ModelBytes model)
    : model_(std::move(model)),
      sections_(model_),
      raw_tokens_(sections_, kAddedRaw),
      normalized_tokens_(sections_, kAddedNormalized),
      normalizer_(sections_),
      pre_tokenizer_(sections_),
      word_piece_(sections_),
      unigram_(sections_),
      bpe_(sections_),
      fingerprint_(FingerprintOf(model_)),
      cache_owner_(WordCache::NewOwner()) {}

std::shared_ptr<const SubwordTokenizer> SubwordTokenizer::FromBytes(ModelBytes model, std::string* error) {
  *error = CheckSubwordModel(model);
  if (!error->empty()) return nullptr;
  return std::shared_ptr<const SubwordTokenizer>(new SubwordTokenizer(std::move(model)));
}

std::shared_ptr<const SubwordTokenizer> SubwordTokenizer::Load(const std::string& path, std::string* error) {
  ModelBytes model;
  *error = ModelBytes::Read(path, &model);
  return error->empty() ? FromBytes(std::move(model), error) : nullptr;
}

std::string_view SubwordTokenizer::name(int64_t id) const {
  const auto* begin = sections_.data<uint64_t>(kNameBegin);
  return sections_.text(kNames).substr(begin[id], begin[id + 1] - begin[id]);
}

std::string_view SubwordTokenizer::Repaired(std::string_view text, Workspace* workspace) {
  const auto* const begin = reinterpret_cast<const uint8_t*>(text.data());
  const uint8_t* const end = begin + text.size();
  Buffer<uint8_t>* const repaired = &workspace->repaired_;
  repaired->Clear();
  const uint8_t* good = begin;  // what follows is not in `repaired` yet
  const uint8_t* p = begin;
  while ((p = AsciiEnd(p, end)) != end) {
    const Decoded decoded = DecodeReplacing(p, end);
    if (IsInvalid(p, decoded)) {
      repaired->Append(good, static_cast<size_t>(p - good));
      repaired->Reserve(4);
      repaired->Advance(EncodeUtf8(kReplacement, repaired->end()));
      good = p + decoded.bytes;
    }
    p += decoded.bytes;
  }
  if (good == begin) return text;
  repaired->Append(good, static_cast<size_t>(end - good));
  return {reinterpret_cast<const char*>(repaired->data()), repaired->size()};
}

void SubwordTokenizer::Encode(std::string_view text, Workspace* workspace, Buffer<int32_t>* ids) const {
  const auto add = [&](int32_t id) { ids->Append(&id, 1); };
  raw_tokens_.Split(
      Repaired(text, workspace),
      [&](std::string_view between) {
        normalized_tokens_.Split(
            normalizer_.Normalize(between, &workspace->normalizer_),
            [&](std::string_view normalized) { EncodeWords(normalized, workspace, ids); }, add);
      },
      add);
}

void SubwordTokenizer::EncodeWords(std::string_view normalized, Workspace* workspace, Buffer<int32_t>* ids) const {
  const PreTokenizer::Words& words = pre_tokenizer_.Cut(normalized, &workspace->pre_tokenizer_);
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = words.data()[i];
    switch (kind()) {
      case SubwordKind::kWordPiece:
        word_piece_.Encode(word, ids);
        break;
      case SubwordKind::kUnigram:
        workspace->cache_.Encode(cache_owner_, word, ids, [&] { unigram_.Encode(word, &workspace->unigram_, ids); });
        break;
      case SubwordKind::kBpe:
        workspace->cache_.Encode(cache_owner_, word, ids, [&] { bpe_.Encode(word, &workspace->bpe_, ids); });
        break;
    }
  }
}

void SubwordTokenizer::Normalize(std::string_view text, Workspace* workspace, Buffer<uint8_t>* out) const {
  const std::string_view normalized = normalizer_.Normalize(Repaired(text, workspace), &workspace->normalizer_);
  out->Append(reinterpret_cast<const uint8_t*>(normalized.data()), normalized.size());
}

}  // namespace dpsr
