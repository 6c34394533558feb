#include "tokenizer_cc/core/bags/tokenizer.h"

#include <array>
#include <cstdio>
#include <utility>

#include "tokenizer_cc/core/bags/trigrams.h"
#include "tokenizer_cc/core/hashing.h"
#include "tokenizer_cc/core/text/utf8.h"

namespace dpsr {
namespace {

// What ASCII words are made of, and the `#` at their ends.
constexpr char kAlphabet[] = "#./0123456789abcdefghijklmnopqrstuvwxyz";
constexpr uint32_t kLetters = sizeof(kAlphabet) - 1;

constexpr std::array<uint8_t, 128> MakeLetterCodes() {
  std::array<uint8_t, 128> codes{};
  for (uint8_t i = 0; i < kLetters; ++i) codes[static_cast<uint8_t>(kAlphabet[i])] = i;
  return codes;
}
constexpr std::array<uint8_t, 128> kLetterCodes = MakeLetterCodes();

void AppendUtf8(uint32_t code_point, std::string* text) {
  uint8_t bytes[4];
  text->append(reinterpret_cast<const char*>(bytes), EncodeUtf8(code_point, bytes));
}

}  // namespace

Tokenizer::Tokenizer(ModelBytes model)
    : model_(std::move(model)), sections_(LocateSections(model_)), vocabulary_(sections_) {
  fingerprint_ = FingerprintOf(model_);
  if (header().trigrams) FillAsciiTrigrams();
}

std::shared_ptr<const Tokenizer> Tokenizer::FromBytes(ModelBytes model, std::string* error) {
  *error = CheckModel(model);
  if (!error->empty()) return nullptr;
  return std::shared_ptr<const Tokenizer>(new Tokenizer(std::move(model)));
}

std::shared_ptr<const Tokenizer> Tokenizer::Load(const std::string& path, std::string* error) {
  ModelBytes model;
  *error = ModelBytes::Read(path, &model);
  return error->empty() ? FromBytes(std::move(model), error) : nullptr;
}

void Tokenizer::FillAsciiTrigrams() {
  ascii_trigrams_.resize(kLetters * kLetters * kLetters);
  size_t i = 0;
  for (uint32_t a = 0; a < kLetters; ++a) {
    for (uint32_t b = 0; b < kLetters; ++b) {
      for (uint32_t c = 0; c < kLetters; ++c) {
        ascii_trigrams_[i++] =
            TrigramId(PackTrigram(static_cast<uint8_t>(kAlphabet[a]), static_cast<uint8_t>(kAlphabet[b]),
                                  static_cast<uint8_t>(kAlphabet[c])));
      }
    }
  }
}

int32_t Tokenizer::TrigramId(uint64_t packed) const {
  const uint32_t id = vocabulary_.FindTrigram(packed);
  return id != 0 ? static_cast<int32_t>(id) : BucketOf(HashTrigram(packed));
}

void Tokenizer::Encode(std::string_view text, Workspace* workspace, Buffer<int32_t>* ids) const {
  Segmenter& segmenter = workspace->segmenter_;
  segmenter.Segment(text);
  const std::vector<Word>& words = segmenter.words();
  if (words.empty()) return;
  // A word each, a bigram each but the last, and as many trigrams as code points.
  ids->Reserve(2 * words.size() + segmenter.text_bytes());
  const int32_t* const begin = ids->end();
  int32_t* out = EncodeWords(workspace, ids->end());
  if (header().trigrams) {
    for (const Word& word : words) {
      if (word.latin) out = EncodeTrigrams(segmenter, word, out);
    }
  }
  if (header().bigrams) {
    // Asked for in EncodeWords; the trigrams gave the memory time to answer.
    int32_t* bigram_ids = ids->end() + words.size();
    for (size_t i = 0; i + 1 < words.size(); ++i) {
      const uint64_t key = workspace->bigrams_.data()[i];
      const uint32_t id = key != 0 ? vocabulary_.FindBigram(key) : 0;
      const uint64_t* hashes = workspace->hashes_.data() + i;
      bigram_ids[i] = id != 0 ? static_cast<int32_t>(id) : BucketOf(HashBigram(hashes[0], hashes[1]));
    }
  }
  ids->Advance(static_cast<size_t>(out - begin));
}

int32_t* Tokenizer::EncodeWords(Workspace* workspace, int32_t* out) const {
  const Segmenter& segmenter = workspace->segmenter_;
  const std::vector<Word>& words = segmenter.words();
  workspace->hashes_.Clear();
  workspace->hashes_.Reserve(words.size());
  uint64_t* const hashes = workspace->hashes_.data();
  for (size_t i = 0; i < words.size(); ++i) {
    hashes[i] = HashWord(segmenter.bytes(words[i]), words[i].length);
    vocabulary_.PrefetchWord(words[i].length, hashes[i]);
  }
  workspace->bigrams_.Clear();
  workspace->bigrams_.Reserve(words.size());
  uint64_t* const bigrams = workspace->bigrams_.data();
  uint32_t previous = 0;
  for (size_t i = 0; i < words.size(); ++i) {
    const uint32_t id = vocabulary_.FindWord(segmenter.bytes(words[i]), words[i].length, hashes[i]);
    out[i] = id != 0 ? static_cast<int32_t>(id) : BucketOf(hashes[i]);
    if (i != 0 && header().bigrams) {
      // A bigram is in the vocabulary only if both words are.
      bigrams[i - 1] = previous != 0 && id != 0 ? Vocabulary::BigramKey(previous, id) : 0;
      vocabulary_.PrefetchBigram(bigrams[i - 1]);
    }
    previous = id;
  }
  return out + words.size() + (header().bigrams ? words.size() - 1 : 0);
}

int32_t* Tokenizer::EncodeTrigrams(const Segmenter& segmenter, const Word& word, int32_t* out) const {
  const uint8_t* const bytes = segmenter.bytes(word);
  if (!word.ascii) {
    ForEachTrigram(bytes, word.length,
                   [&](uint32_t a, uint32_t b, uint32_t c) { *out++ = TrigramId(PackTrigram(a, b, c)); });
    return out;
  }
  const int32_t* const table = ascii_trigrams_.data();
  uint32_t pair = kLetterCodes[bytes[0]];  // after the `#`, whose code is 0
  for (size_t i = 1; i < word.length; ++i) {
    const uint32_t code = kLetterCodes[bytes[i]];
    *out++ = table[pair * kLetters + code];
    pair = pair % kLetters * kLetters + code;
  }
  *out++ = table[pair * kLetters];
  return out;
}

std::vector<Token> Tokenizer::Tokens(std::string_view text) const {
  Workspace workspace;
  Buffer<int32_t> ids;
  Encode(text, &workspace, &ids);
  const Segmenter& segmenter = workspace.segmenter_;
  const std::vector<Word>& words = segmenter.words();
  std::vector<Token> tokens;
  const auto add = [&](std::string token, Kind kind) {
    tokens.push_back({std::move(token), kind, ids.data()[tokens.size()]});
  };
  for (const Word& word : words) add(std::string(segmenter.view(word)), Kind::kWord);
  for (size_t i = 1; i < words.size() && header().bigrams; ++i) {
    add(std::string(segmenter.view(words[i - 1])) + " " + std::string(segmenter.view(words[i])), Kind::kBigram);
  }
  for (const Word& word : words) {
    if (!word.latin || !header().trigrams) continue;
    ForEachTrigram(segmenter.bytes(word), word.length, [&](uint32_t a, uint32_t b, uint32_t c) {
      std::string trigram;
      for (const uint32_t code_point : {a, b, c}) AppendUtf8(code_point, &trigram);
      add(std::move(trigram), Kind::kTrigram);
    });
  }
  return tokens;
}

}  // namespace dpsr
