#include "tokenizer_cc/core/subwords/unigram.h"

#include <algorithm>

#include "tokenizer_cc/core/text/utf8.h"

namespace dpsr {

void Unigram::FindPaths(std::string_view word, Node* nodes) const {
  const auto* const begin = reinterpret_cast<const uint8_t*>(word.data());
  const uint8_t* const end = begin + word.size();
  const auto offer = [](Node* target, double score, int32_t id, size_t bytes) {
    if (target->bytes == 0 || score > target->score) *target = {score, id, static_cast<uint32_t>(bytes)};
  };
  for (const uint8_t* p = begin; p != end;) {
    Node* const here = nodes + (p - begin);
    const uint32_t character = DecodeValid(p).bytes;
    bool has_character = false;
    uint32_t state = 0;
    for (const uint8_t* q = p; q != end;) {
      state = pieces_.Child(state, *q++);
      if (state == 0) break;
      const int32_t id = pieces_.value(state);
      if (id < 0) continue;
      const auto bytes = static_cast<size_t>(q - p);
      offer(here + bytes, here->score + scores_[id], id, bytes);
      has_character |= bytes == character;
    }
    if (!has_character) offer(here + character, here->score + unknown_score_, unknown_, character);
    p += character;
  }
}

int32_t Unigram::FusedId(std::string_view text) const {
  const uint32_t state = pieces_.Walk(text);
  const int32_t id = state == 0 ? -1 : pieces_.value(state);
  return id < 0 ? unknown_ : id;
}

void Unigram::Encode(std::string_view word, Workspace* workspace, Buffer<int32_t>* ids) const {
  Buffer<Node>* const buffer = &workspace->nodes;
  buffer->Clear();
  buffer->Reserve(word.size() + 1);
  Node* const nodes = buffer->data();
  std::fill(nodes, nodes + word.size() + 1, Node{0, 0, 0});
  FindPaths(word, nodes);

  ids->Reserve(word.size());
  int32_t* const first = ids->end();
  int32_t* out = first;
  for (size_t end = word.size(); end != 0;) {
    const size_t piece_end = end;
    const int32_t id = nodes[end].id;
    end -= nodes[end].bytes;
    if (id != unknown_) {
      *out++ = id;
      continue;
    }
    while (end != 0 && nodes[end].id == unknown_) end -= nodes[end].bytes;
    *out++ = FusedId(word.substr(end, piece_end - end));
  }
  std::reverse(first, out);
  ids->Advance(static_cast<size_t>(out - first));
}

}  // namespace dpsr
